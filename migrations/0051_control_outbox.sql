-- Changes of tenants and keys are told through an outbox. Tenants get a version, so that of two pushed states the
-- later one is known.
ALTER TABLE control.tenants ADD COLUMN version bigint NOT NULL DEFAULT 1;
CALL weir.add_outbox('control');

-- control.resolve_key with the tenant's version, for services only. The older one stays until no version of the
-- services calls it.
CREATE FUNCTION control.key_grant(key_sha256 bytea, now_ms bigint)
RETURNS TABLE (
    key_id uuid, tenant_id uuid, user_id uuid, scopes text[],
    requests_per_minute bigint, tokens_per_minute bigint, expires_at_ms bigint, tenant_version bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('service');
    RETURN QUERY
        SELECT k.id, k.tenant_id, k.user_id, k.scopes, t.requests_per_minute, t.tokens_per_minute, k.expires_at_ms,
            t.version
        FROM control.api_keys k JOIN control.tenants t ON t.tenant_id = k.tenant_id
        WHERE k.sha256 = key_sha256
          AND k.revoked_at_ms IS NULL
          AND (k.expires_at_ms IS NULL OR k.expires_at_ms > now_ms)
          AND t.status = 'active';
END $$;
CALL weir.expose('control.key_grant(bytea, bigint)');

-- control.list_tenants with everything there is, for the platform's operator only. The older one stays as above.
CREATE FUNCTION control.tenants_page(before uuid, page_size integer)
RETURNS TABLE (
    tenant_id uuid, name text, tier text, requests_per_minute bigint, tokens_per_minute bigint, created_at_ms bigint,
    suspended boolean, version bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM weir.require('platform');
    RETURN QUERY
        SELECT t.tenant_id, t.name, t.tier, t.requests_per_minute, t.tokens_per_minute, t.created_at_ms,
            t.status = 'suspended', t.version
        FROM control.tenants t
        WHERE before IS NULL OR t.tenant_id < before
        ORDER BY t.tenant_id DESC
        LIMIT page_size;
END $$;
CALL weir.expose('control.tenants_page(uuid, integer)');
