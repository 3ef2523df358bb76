-- What calls cost, and tokens that were written to caches. Reports read sums: rows of before have none.
ALTER TABLE billing.usage_counters
    -- Part of the input of requests, and of attempts.
    ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN provider_cache_write_tokens bigint NOT NULL DEFAULT 0,
    -- The attempts whose price is known, in nano-dollars; and how many of the attempts that is not of.
    ADD COLUMN provider_cost_nano_usd bigint NOT NULL DEFAULT 0,
    ADD COLUMN attempts_unpriced bigint NOT NULL DEFAULT 0;
