-- Messages of no mailing that were cancelled while a node had them in hand: that node takes them back, and who claims one
-- that waits again cancels it. A row goes when its message has ended.
CREATE TABLE cancellation (
    message_id uuid        NOT NULL PRIMARY KEY,
    -- whether it is cancelled also when an attempt that is in flight does not deliver it
    holds      boolean     NOT NULL,
    -- what the node said that has it: whether an attempt is in flight; null: nothing yet
    in_flight  boolean,
    asked_at   timestamptz NOT NULL
);
