// Where REDIS_URL leads, as ioredis wants it told.
"use strict";

exports.connection = () => {
  const url = new URL(process.env.REDIS_URL);
  return {
    host: url.hostname,
    port: Number(url.port),
    password: decodeURIComponent(url.password),
    maxRetriesPerRequest: null,
  };
};
