-- Messages a second of one mailing; none beyond its channel's.
ALTER TABLE mailing ADD COLUMN rate_per_second REAL;
