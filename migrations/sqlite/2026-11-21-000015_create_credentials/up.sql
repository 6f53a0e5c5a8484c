-- What requests prove with who asks. Nothing in here opens what is encrypted: the key is the service's.
CREATE TABLE credential (
    name        TEXT    NOT NULL PRIMARY KEY,
    description TEXT,
    -- the kind and what of it is no secret, as JSON; what is encrypted is bound to it and to the name
    shown       TEXT    NOT NULL,
    -- AES-256-GCM: v1.<fingerprint of the key>.<nonce, ciphertext, tag>
    sealed      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
