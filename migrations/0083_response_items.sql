-- Whose a response is within its tenant, and where items are to be found that requests refer to.

ALTER TABLE chat.responses
    -- The user that a key acted for; nothing for one that acts for none. So are the rows of before.
    ADD COLUMN user_id uuid;

-- Items of answers, by the ids that clients know them by.
CREATE TABLE chat.response_items (
    tenant_id   uuid NOT NULL,
    item_id     text NOT NULL CHECK (char_length(item_id) BETWEEN 1 AND 128),
    response_id text NOT NULL,
    PRIMARY KEY (tenant_id, item_id, response_id),
    FOREIGN KEY (tenant_id, response_id) REFERENCES chat.responses (tenant_id, id) ON DELETE CASCADE
);
CALL weir.protect('chat.response_items', 'select, insert, delete');
-- What goes with a response.
CREATE INDEX response_items_response ON chat.response_items (tenant_id, response_id);
