DROP TABLE cancellation;
