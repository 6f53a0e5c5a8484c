DROP TABLE generated_secret;
