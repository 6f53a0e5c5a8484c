ALTER TABLE notification DROP COLUMN template;
ALTER TABLE mailing DROP COLUMN variants;
ALTER TABLE mailing DROP COLUMN template;
ALTER TABLE client DROP COLUMN locale;
DROP TABLE template_version;
DROP TABLE template;
