-- Addresses that nothing may be sent to, or nothing of a group.
CREATE TABLE suppression (
    id            BLOB     NOT NULL PRIMARY KEY,
    channel       INTEGER  NOT NULL,
    -- a keyed hash of the channel and the address in its normal form: it stays when the person is erased
    address_key   BLOB     NOT NULL,
    -- '' for everything
    message_group TEXT     NOT NULL,
    reason        INTEGER  NOT NULL,
    -- the normal form; none once the person was erased
    address       TEXT,
    source        TEXT     NOT NULL,
    note          TEXT,
    since         INTEGER  NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX suppression_address ON suppression (address_key, message_group, reason);

-- The addresses that a mailing goes to, each with the client who has its message: who shares an address gets none.
CREATE TABLE mailing_address (
    mailing_number INTEGER NOT NULL,
    address_key    BLOB    NOT NULL,
    client_id      BLOB    NOT NULL,
    PRIMARY KEY (mailing_number, address_key)
) STRICT, WITHOUT ROWID;

-- Clients' opt-outs hold for their addresses from now on. The program moves the rows of this table into `suppression` at its
-- start, since only it can make the hashes; then the table is empty.
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 1, CAST(c.phone_number AS TEXT), '', p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
WHERE (p.channels >> 1) & 1;
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 2, c.email, '', p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
WHERE (p.channels >> 2) & 1 AND c.email IS NOT NULL;
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 3, c.push_token, '', p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
WHERE (p.channels >> 3) & 1 AND c.push_token IS NOT NULL;
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 1, CAST(c.phone_number AS TEXT), g.value, p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
JOIN json_each(p.message_groups) g WHERE p.message_groups IS NOT NULL;
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 2, c.email, g.value, p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
JOIN json_each(p.message_groups) g WHERE p.message_groups IS NOT NULL AND c.email IS NOT NULL;
INSERT OR IGNORE INTO opt_out_address (channel, recipient, message_group, created_at)
SELECT 3, c.push_token, g.value, p.updated_at FROM preference p JOIN client c ON c.id = p.client_id
JOIN json_each(p.message_groups) g WHERE p.message_groups IS NOT NULL AND c.push_token IS NOT NULL;
