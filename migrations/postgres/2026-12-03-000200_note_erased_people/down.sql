DROP TABLE erased_client;
