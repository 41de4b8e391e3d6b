// What one would write with express: the body as it came, HMAC with node:crypto, pooled connections to the application.
// node express.js PORT UPSTREAM_PORT SECRET_FILE LARGEST_BODY
"use strict";

const { createHmac, timingSafeEqual } = require("node:crypto");
const { readFileSync } = require("node:fs");
const http = require("node:http");
const express = require("express");

const [port, upstream, secretFile, largestBody] = process.argv.slice(2);
const secret = readFileSync(secretFile);
const agent = new http.Agent({ keepAlive: true, maxFreeSockets: 1024 });
const perConnection = new Set(["connection", "keep-alive", "transfer-encoding"]);

const endToEnd = (headers) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !perConnection.has(name)));

function isGenuine(request) {
  const claimed = Buffer.from(request.get("x-hub-signature-256") ?? "");
  const tag = createHmac("sha256", secret).update(request.body).digest("hex");
  const expected = Buffer.from(`sha256=${tag}`);
  return claimed.length === expected.length && timingSafeEqual(claimed, expected);
}

const app = express();
app.disable("x-powered-by");
// use, not post("*"): the router that Debian has no longer takes the asterisk for a path.
app.use(express.raw({ type: () => true, limit: Number(largestBody) }), (request, response) => {
  if (!isGenuine(request)) {
    response.status(401).end();
    return;
  }
  const forwarded = http.request(
    {
      agent,
      host: "127.0.0.1",
      port: upstream,
      method: "POST",
      path: request.originalUrl,
      headers: endToEnd(request.headers),
    },
    (answer) => {
      response.writeHead(answer.statusCode, endToEnd(answer.headers));
      answer.pipe(response);
    },
  );
  forwarded.on("error", () => response.status(502).end());
  forwarded.end(request.body);
});

const server = http.createServer({ keepAliveTimeout: 600_000, requestTimeout: 0 }, app);
server.listen(Number(port), "127.0.0.1");
