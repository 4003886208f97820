// Fastify with BullMQ: one `queue.add` for each callback. ioredis pipelines what is sent in the same turn of the loop.
// node server.js PORT, with REDIS_URL set
"use strict";
const fastify = require("fastify");
const { Queue } = require("bullmq");
const { connection } = require("./connection");

const queue = new Queue("callbacks", { connection: connection() });
const app = fastify({ logger: false });

app.post("/callbacks", async (request) => {
  await queue.add("callback", request.body, { removeOnComplete: true });
  return { status: "accepted" };
});

app.listen({ host: "127.0.0.1", port: Number(process.argv[2]) });
