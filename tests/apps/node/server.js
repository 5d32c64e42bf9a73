// Answers with a dependency's work: `ms` turns two days into milliseconds.
const http = require("node:http");
const ms = require("ms");

http
  .createServer((request, response) => {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ framework: "node", two_days: ms("2 days"), dea: process.env.VCAP_APP_HOST }) + "\n");
  })
  .listen(Number(process.env.VCAP_APP_PORT), "0.0.0.0");
