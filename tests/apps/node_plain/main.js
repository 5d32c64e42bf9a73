// Answers who it is; depends on nothing.
const http = require("node:http");
const me = JSON.parse(process.env.VCAP_APPLICATION || "{}");

http
  .createServer((request, response) => {
    if (request.url === "/crash") process.kill(process.pid, "SIGKILL");
    const facts = {
      framework: "node", name: me.name, version: me.version, instance: me.instance_index, instance_id: me.instance_id,
      dea: process.env.VCAP_APP_HOST, port: process.env.PORT, runtime: process.version, mode: process.env.NODE_ENV,
      greeting: process.env.GREETING,
    };
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(facts) + "\n");
  })
  .listen(Number(process.env.PORT), "0.0.0.0");
