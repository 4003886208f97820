// node drain.js fill | work: puts callbacks into the queue, or takes them out, 50 at once, and prints the rate.
"use strict";
const fs = require("node:fs");
const { Queue, Worker } = require("bullmq");
const { connection } = require("./connection");

const expected = Number(process.env.BENCHMARK_CALLBACKS);

async function fill() {
  const template = fs.readFileSync(process.env.BENCHMARK_TEMPLATE, "utf8");
  const mark = process.env.BENCHMARK_MARK;
  const queue = new Queue("callbacks", { connection: connection() });
  for (let first = 0; first < expected; first += 1000) {
    const jobs = [];
    for (let number = first; number < Math.min(first + 1000, expected); number++) {
      const body = template.replaceAll(mark, String(number).padStart(mark.length, "0"));
      jobs.push({ name: "callback", data: JSON.parse(body), opts: { removeOnComplete: true } });
    }
    await queue.addBulk(jobs);
  }
  await queue.close();
}

function nothing(_report) {}

function work() {
  let calls = 0;
  let started = 0n;
  const worker = new Worker(
    "callbacks",
    async (job) => {
      if (calls++ === 0) started = process.hrtime.bigint();
      job.data.data.forEach(nothing);
    },
    { connection: connection(), concurrency: 50 },
  );
  let completed = 0;
  worker.on("completed", () => {
    if (++completed < expected) return;
    const seconds = Number(process.hrtime.bigint() - started) / 1e9;
    console.log(JSON.stringify({ callbacks: expected, rate: expected / seconds }));
  });
}

if (process.argv[2] === "fill") fill();
else work();
