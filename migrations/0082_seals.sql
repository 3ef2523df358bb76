-- A tenant's own key, under which what clients keep for Weir is sealed: compacted conversations. Without its row nothing
-- that was sealed under it can be read again.

CREATE TABLE chat.seals (
    tenant_id  uuid PRIMARY KEY,
    key        bytea NOT NULL CHECK (octet_length(key) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
CALL weir.protect('chat.seals', 'select, insert');
