DROP TABLE declared_attribute;
