-- Old inbox rows, found through a tree: pruned pages are filled again in no order of time, so that ranges of pages
-- (the BRIN indexes before) would come to span all of it.
DROP INDEX billing.inbox_received;
CREATE INDEX inbox_received ON billing.inbox (received_at);
DROP INDEX analytics.inbox_received;
CREATE INDEX inbox_received ON analytics.inbox (received_at);
