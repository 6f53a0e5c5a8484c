-- What requests prove with who asks. Nothing in here opens what is encrypted: the key is the service's.
CREATE TABLE credential (
    -- in the order of its bytes, whatever the database's language is
    name        text COLLATE "C" NOT NULL PRIMARY KEY,
    description text,
    -- the kind and what of it is no secret, as JSON; what is encrypted is bound to it and to the name
    shown       text             NOT NULL,
    -- AES-256-GCM: v1.<fingerprint of the key>.<nonce, ciphertext, tag>
    sealed      text             NOT NULL,
    created_at  timestamptz      NOT NULL,
    updated_at  timestamptz      NOT NULL
);
