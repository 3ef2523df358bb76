-- Tenants and their API keys.

CREATE TABLE control.tenants (
    tenant_id           uuid PRIMARY KEY,
    name                text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    tier                text NOT NULL CHECK (tier IN ('free', 'standard', 'premium', 'enterprise')),
    -- Null: not limited.
    requests_per_minute bigint CHECK (requests_per_minute > 0),
    tokens_per_minute   bigint CHECK (tokens_per_minute > 0),
    status              text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at_ms       bigint NOT NULL
);
CALL weir.protect('control.tenants', 'select, insert, update');

CREATE TABLE control.api_keys (
    tenant_id     uuid NOT NULL REFERENCES control.tenants,
    id            uuid NOT NULL,
    name          text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    -- Of the whole key; the key itself is stored nowhere.
    sha256        bytea NOT NULL CHECK (octet_length(sha256) = 32),
    scopes        text[] NOT NULL,
    -- Null: the key acts for itself.
    user_id       uuid,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    revoked_at_ms bigint,
    PRIMARY KEY (tenant_id, id)
);
-- A presented key names no tenant, so this index leads with the hash. Only control.resolve_key looks here.
CREATE UNIQUE INDEX api_keys_sha256 ON control.api_keys (sha256);
CALL weir.protect('control.api_keys', 'select, insert, update');

-- What the key with this hash may do; no row when it is unknown, revoked, expired, or its tenant is suspended.
CREATE FUNCTION control.resolve_key(key_sha256 bytea, now_ms bigint)
RETURNS TABLE (
    key_id uuid, tenant_id uuid, user_id uuid, scopes text[],
    requests_per_minute bigint, tokens_per_minute bigint, expires_at_ms bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.id, k.tenant_id, k.user_id, k.scopes, t.requests_per_minute, t.tokens_per_minute, k.expires_at_ms
    FROM control.api_keys k JOIN control.tenants t USING (tenant_id)
    WHERE k.sha256 = key_sha256
      AND k.revoked_at_ms IS NULL
      AND (k.expires_at_ms IS NULL OR k.expires_at_ms > now_ms)
      AND t.status = 'active'
$$;
CALL weir.expose('control.resolve_key(bytea, bigint)');

-- The platform's list, newest first: ids are UUIDs of version 7. `before` is the last id of the page before.
CREATE FUNCTION control.list_tenants(before uuid, page_size integer)
RETURNS TABLE (
    tenant_id uuid, name text, tier text, requests_per_minute bigint, tokens_per_minute bigint, created_at_ms bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.tenant_id, t.name, t.tier, t.requests_per_minute, t.tokens_per_minute, t.created_at_ms
    FROM control.tenants t
    WHERE before IS NULL OR t.tenant_id < before
    ORDER BY t.tenant_id DESC
    LIMIT page_size
$$;
CALL weir.expose('control.list_tenants(uuid, integer)');
