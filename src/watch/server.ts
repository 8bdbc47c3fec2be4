// The report of a run over HTTP, on this machine alone: `/` is the report as the files are now, `/events` tells of each change.
//
// Samples are texts that a model wrote, and any web page that is open in the same browser can send requests to this machine.
// Therefore: the server listens on the loopback address; it refuses requests whose Host header names another host, which is
// what a page gets whose name was made to point here (DNS rebinding); it changes nothing; every text is escaped, and the content
// security policy allows no script but the page's own.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buildReport, reportVersion } from '../report/run/index.js';

export interface WatchOptions {
  /** Of the loopback address; 0 takes a free one. */
  port: number;
  /** Milliseconds between two looks at the folder. Default 1000. */
  interval?: number;
}

export interface Watch {
  /** The address of the page. */
  readonly url: string;
  /** Ends the streams of events and stops listening. */
  close(): Promise<void>;
}

const address = '127.0.0.1';

/** Host names that mean this machine, with any port: a tunnel may give the page another one. */
const ownHost = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** Streams of events at once: each holds a connection. */
const maxStreams = 64;

/** Milliseconds after which a stream without an event gets a comment, so that a lost connection is noticed. */
const silence = 15_000;

/** Building a report may take a tenth of the time: that of a long run takes seconds. */
const rest = 10;

const eventsPath = '/events';

/**
 * Serves the report of a run folder, which may grow, until `close`.
 * @throws the system's error where the port cannot be had (`EADDRINUSE`, `EACCES`).
 */
export async function watchRun(runDir: string, { port, interval = 1000 }: WatchOptions): Promise<Watch> {
  const report = new LiveReport(runDir, interval);
  const server = createServer((request, response) => {
    // Somebody who has gone away is no error.
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
    // The page's own, and what only a header can say.
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

/** The report of a folder, built when somebody asks for it and the files have changed, and those who wait for changes. */
class LiveReport {
  /** The streams of events, each with the version that it was last told of. */
  private readonly streams = new Map<ServerResponse, string>();
  private timer: NodeJS.Timeout | undefined;
  private lastEvent = 0;
  private built: { version: string; html: Promise<string> } | undefined;
  /** Milliseconds that the last report took. */
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

  /** Of the files as they are; of several requests that find them the same, only one builds it. */
  async html(): Promise<string> {
    const version = await reportVersion(this.runDir);
    if (this.built?.version === version) return this.built.html;
    const before = this.built?.html.catch(() => undefined);
    const html = (async () => {
      // One at a time, whatever number of requests comes in.
      await before;
      const began = performance.now();
      const text = await buildReport(this.runDir, { events: eventsPath, version });
      this.cost = performance.now() - began;
      return text;
    })();
    const built = { version, html };
    this.built = built;
    html.catch(() => {
      // An error may pass without a change of the files.
      if (this.built === built) this.built = undefined;
    });
    return html;
  }

  /** A stream of server-sent events: the version of the report now, and each one after it. */
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
      for (const [stream, told] of this.streams) {
        if (told !== version) this.send(stream, eventOf(version));
        else if (isSilent) this.send(stream, ':\n\n');
        this.streams.set(stream, version);
      }
    }
    if (!this.isStopped) this.start();
  }

  private send(stream: ServerResponse, text: string): void {
    this.lastEvent = performance.now();
    // A page that reads nothing gets nothing more; it will ask again.
    if (stream.writableNeedDrain) stream.destroy();
    else stream.write(text);
  }
}

function eventOf(version: string): string {
  return `data: ${version}\n\n`;
}
