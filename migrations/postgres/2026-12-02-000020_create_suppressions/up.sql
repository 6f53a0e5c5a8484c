-- Addresses that nothing may be sent to, or nothing of a group.
CREATE TABLE suppression (
    id            uuid        NOT NULL PRIMARY KEY,
    channel       smallint    NOT NULL,
    -- a keyed hash of the channel and the address in its normal form: it stays when the person is erased
    address_key   bytea       NOT NULL,
    -- '' for everything
    message_group text        NOT NULL,
    reason        smallint    NOT NULL,
    -- the normal form; none once the person was erased
    address       text,
    source        text        NOT NULL,
    note          text,
    since         timestamptz NOT NULL
);
CREATE UNIQUE INDEX suppression_address ON suppression (address_key, message_group, reason);

-- The addresses that a mailing goes to, each with the client who has its message: who shares an address gets none.
CREATE TABLE mailing_address (
    mailing_number integer NOT NULL,
    address_key    bytea   NOT NULL,
    client_id      uuid    NOT NULL,
    PRIMARY KEY (mailing_number, address_key)
);

-- Clients' opt-outs hold for their addresses from now on. The program moves the rows of this table into `suppression` at its
-- start, since only it can make the hashes; then the table is empty.
INSERT INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT a.channel, a.recipient, '', p.updated_at
FROM preference p
JOIN client c ON c.id = p.client_id
CROSS JOIN LATERAL (VALUES (1::smallint, c.phone_number::text), (2::smallint, c.email), (3::smallint, c.push_token))
    AS a (channel, recipient)
WHERE a.recipient IS NOT NULL AND (p.channels >> a.channel) & 1 = 1
ON CONFLICT DO NOTHING;
INSERT INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT a.channel, a.recipient, g.word, p.updated_at
FROM preference p
JOIN client c ON c.id = p.client_id
CROSS JOIN LATERAL jsonb_array_elements_text(p.message_groups::jsonb) AS g (word)
CROSS JOIN LATERAL (VALUES (1::smallint, c.phone_number::text), (2::smallint, c.email), (3::smallint, c.push_token))
    AS a (channel, recipient)
WHERE p.message_groups IS NOT NULL AND a.recipient IS NOT NULL
ON CONFLICT DO NOTHING;
