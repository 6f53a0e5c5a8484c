DROP TABLE webhook_endpoint;
