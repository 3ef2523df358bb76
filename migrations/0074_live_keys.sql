-- How many keys of a tenant count against its limit is counted without walking all it ever had. Keys are few and rarely
-- made: whoever makes one waits for this.
CREATE INDEX api_keys_live ON control.api_keys (tenant_id, revoked_at_ms);
