DROP TABLE recurring_request;
DROP TABLE request;
