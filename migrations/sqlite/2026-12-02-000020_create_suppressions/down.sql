-- What was opted out of, as far as the addresses are still known.
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT channel, address, message_group, min(since) FROM suppression WHERE address IS NOT NULL
GROUP BY channel, address, message_group;
DROP TABLE mailing_address;
DROP TABLE suppression;
