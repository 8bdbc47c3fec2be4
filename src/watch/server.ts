// Serves the report of a run over HTTP, on this machine only: `/` is the report of the current files, `/events` announces changes.
//
// Samples are text that a model wrote, and any web page open in the same browser can send requests to this machine.
// Therefore the server listens on the loopback address and rejects requests whose Host header names another host, as those of a
// page do whose name resolves to this machine (DNS rebinding); it changes nothing; all text is escaped, and the content
// security policy allows only the page's own script.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buildReport, reportVersion } from '../report/run/index.js';

export interface WatchOptions {
  /** Port on the loopback address; 0 picks a free one. */
  port: number;
  /** Milliseconds between two checks of the folder. Default 1000. */
  interval?: number;
}

export interface Watch {
  /** The address of the page. */
  readonly url: string;
  /** Ends the event streams and stops listening. */
  close(): Promise<void>;
}

const address = '127.0.0.1';

/** Host names of this machine, with any port: a tunnel may use another one. */
const ownHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** Maximum number of event streams, each of which holds a connection. */
const maxStreams = 64;

/** Milliseconds after which an idle stream gets a comment, so that a lost connection is noticed. */
const silence = 15_000;

/** Checks wait at least this many times as long as the last report took, which can be seconds for a long run. */
const rest = 10;

const eventsPath = '/events';

/**
 * Serves the report of a run folder, which may still be growing, until `close`.
 * @throws the system's error if the port is not available (`EADDRINUSE`, `EACCES`).
 */
export async function watchRun(runDir: string, { port, interval = 1000 }: WatchOptions): Promise<Watch> {
  const report = new LiveReport(runDir, interval);
  const server = createServer((request, response) => {
    // A client that disconnects is not an error.
    response.on('error', () => {});
    answer(report, request, response).catch((error: Error) => fail(response, 500, error.message));
  });
  await listen(server, port);
  report.start();
  return {
    url: `http://${address}:${(server.address() as AddressInfo).port}/`,
    close: () => {
      report.stop();
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

const headers = {
  'Cache-Control': 'no-store',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

async function answer(report: LiveReport, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const hosts = request.headersDistinct.host ?? [];
  if (hosts.length !== 1 || !ownHost.test(hosts[0])) {
    return fail(response, 421, `expected a request to ${address} or localhost`);
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD');
    return fail(response, 405, 'expected GET or HEAD');
  }
  const [path] = request.url!.split('?');
  if (path === '/') return sendReport(report, response);
  if (path === eventsPath) return report.openStream(request, response);
  fail(response, 404, 'not found: the report is at /');
}

async function sendReport(report: LiveReport, response: ServerResponse): Promise<void> {
  let html: string;
  try {
    html = await report.html();
  } catch (error) {
    return fail(response, 503, (error as Error).message);
  }
  const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html)!;
  response.writeHead(200, {
    ...headers,
    // The page's own policy, plus what only a header can state.
    'Content-Security-Policy': `${policy}; frame-ancestors 'none'`,
    'Content-Type': 'text/html; charset=utf-8',
  });
  response.end(html);
}

function fail(response: ServerResponse, status: number, message: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const policy = { 'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'" };
  response.writeHead(status, { ...headers, ...policy, 'Content-Type': 'text/plain; charset=utf-8' });
  response.end(`${message}\n`);
}

/** The report of a folder, rebuilt on request if the files have changed, and the streams that are waiting for changes. */
class LiveReport {
  /** The event streams, each with the version that was sent last. */
  private readonly streams = new Map<ServerResponse, string>();
  private timer: NodeJS.Timeout | undefined;
  private lastEvent = 0;
  private built: { version: string; html: Promise<string> } | undefined;
  /** Milliseconds that building the last report took. */
  private cost = 0;
  private isStopped = false;

  constructor(
    private readonly runDir: string,
    private readonly interval: number,
  ) {}

  start(): void {
    this.timer = setTimeout(() => void this.look(), Math.max(this.interval, rest * this.cost));
  }

  stop(): void {
    this.isStopped = true;
    clearTimeout(this.timer);
    for (const stream of this.streams.keys()) stream.end();
  }

  /** The report of the current files. Concurrent requests for the same version share one build. */
  async html(): Promise<string> {
    const version = await reportVersion(this.runDir);
    if (this.built?.version === version) return this.built.html;
    const before = this.built?.html.catch(() => undefined);
    const html = (async () => {
      // One build at a time, however many requests arrive.
      await before;
      const began = performance.now();
      const text = await buildReport(this.runDir, { events: eventsPath, version });
      this.cost = performance.now() - began;
      return text;
    })();
    const built = { version, html };
    this.built = built;
    html.catch(() => {
      // The error may be temporary, so the next request tries again.
      if (this.built === built) this.built = undefined;
    });
    return html;
  }

  /** A stream of server-sent events: the current version of the report, and each later one. */
  async openStream(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.streams.size >= maxStreams) return fail(response, 503, `expected at most ${maxStreams} pages at once`);
    const version = await reportVersion(this.runDir);
    if (response.destroyed) return;
    response.writeHead(200, { ...headers, 'Content-Type': 'text/event-stream; charset=utf-8' });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    this.streams.set(response, version);
    response.on('close', () => this.streams.delete(response));
    response.write(`retry: ${this.interval}\n\n${eventOf(version)}`);
  }

  private async look(): Promise<void> {
    if (this.streams.size > 0) {
      const version = await reportVersion(this.runDir);
      const isSilent = performance.now() - this.lastEvent > silence;
      for (const [stream, sent] of this.streams) {
        if (sent !== version) this.send(stream, eventOf(version));
        else if (isSilent) this.send(stream, ':\n\n');
        this.streams.set(stream, version);
      }
    }
    if (!this.isStopped) this.start();
  }

  private send(stream: ServerResponse, text: string): void {
    this.lastEvent = performance.now();
    // A client that does not read is disconnected; its page will reconnect.
    if (stream.writableNeedDrain) stream.destroy();
    else stream.write(text);
  }
}

function eventOf(version: string): string {
  return `data: ${version}\n\n`;
}
