-- Clients that were erased not long ago: what a node still had in memory of them then is erased after it has been recorded.
CREATE TABLE erased_client (
    client_id BLOB    NOT NULL PRIMARY KEY,
    erased_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
