// Headless Chromium, controlled over its DevTools protocol, if it is installed.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

export const chromium = process.env.GROUPGRAD_CHROMIUM ?? 'chromium';
/** Why tests that need it are skipped, or false. */
export const noBrowser = spawnSync(chromium, ['--version']).status !== 0 && `${chromium} was not found`;

/** Milliseconds after which the browser is considered to have failed. */
const patience = 30_000;

interface Reply {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** A page in a separate browser, of the requested width. */
export class BrowserPage {
  /** Complaints of the page: errors, and violations of its content security policy. */
  readonly complaints: string[] = [];
  private readonly waiting = new Map<number, { resolve: (result: Reply) => void; reject: (error: Error) => void }>();
  private count = 0;
  private session: string | undefined;

  private constructor(
    private readonly process: ChildProcess,
    private readonly profile: string,
  ) {
    let rest = '';
    (process.stdio[4] as Readable).setEncoding('utf8').on('data', (chunk: string) => {
      const messages = (rest + chunk).split('\0');
      rest = messages.pop()!;
      for (const message of messages) this.receive(JSON.parse(message) as Reply);
    });
    process.on('exit', () => {
      for (const { reject } of this.waiting.values()) reject(new Error(`${chromium} has ended`));
    });
  }

  static async open(url: string, width: number, height = 844): Promise<BrowserPage> {
    const profile = mkdtempSync(join(tmpdir(), 'groupgrad-browser-'));
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe'];
    const child = spawn(chromium, [...flags, `--user-data-dir=${profile}`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const page = new BrowserPage(child, profile);
    try {
      await page.show(url, width, height);
      return page;
    } catch (error) {
      // Its caller has nothing to close, and a browser that goes on would keep the tests waiting.
      await page.close();
      throw error;
    }
  }

  private async show(url: string, width: number, height: number): Promise<void> {
    const { targetId } = await this.ask('Target.createTarget', { url: 'about:blank' });
    this.session = (await this.ask('Target.attachToTarget', { targetId, flatten: true })).sessionId as string;
    for (const domain of ['Page', 'Runtime', 'Log']) await this.ask(`${domain}.enable`);
    const screen = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.ask('Emulation.setDeviceMetricsOverride', screen);
    await this.ask('Page.navigate', { url });
  }

  /** The value of an expression in the page, which may be a promise. */
  async evaluate<T>(expression: string): Promise<T> {
    const answer = await this.ask('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    assert.equal(answer.exceptionDetails, undefined, JSON.stringify(answer.exceptionDetails));
    return (answer.result as { value: T }).value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression: string, milliseconds = patience): Promise<void> {
    const began = performance.now();
    while (!(await this.evaluate(`Boolean(${expression})`))) {
      assert.ok(performance.now() - began < milliseconds, `${expression} did not become true`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** A screenshot of the window as a PNG. */
  async screenshot(): Promise<Buffer> {
    return Buffer.from((await this.ask('Page.captureScreenshot', { format: 'png' })).data as string, 'base64');
  }

  /** Does not throw: what a test closes after it would stay open. */
  async close(): Promise<void> {
    const hasEnded = this.process.exitCode !== null || this.process.signalCode !== null;
    const exit = hasEnded || once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exit;
    for (const stream of this.process.stdio) stream?.destroy();
    // Its other processes end a little later, and write until then.
    for (let left = 20; left > 0; left--) {
      try {
        rmSync(this.profile, { recursive: true, force: true });
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    console.warn(`${this.profile} could not be removed`);
  }

  private async ask(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const id = ++this.count;
    const { promise, ...settle } = withResolvers<Reply>();
    this.waiting.set(id, settle);
    const message = JSON.stringify({ id, method, params, sessionId: this.session });
    (this.process.stdio[3] as Writable).write(`${message}\0`);
    const limit = setTimeout(() => settle.reject(new Error(`${method}: no answer from ${chromium}`)), patience);
    const { result, error } = await promise.finally(() => clearTimeout(limit));
    if (error) throw new Error(`${method}: ${error.message}`);
    return result!;
  }

  private receive(reply: Reply): void {
    const { id, method, params } = reply;
    if (id !== undefined) {
      this.waiting.get(id)?.resolve(reply);
      this.waiting.delete(id);
    }
    if (method === 'Log.entryAdded') {
      const { level, text, url } = params!.entry as { level: string; text: string; url?: string };
      // The site's icon, which the browser requests by itself.
      if (level === 'error' && !url?.endsWith('/favicon.ico')) this.complaints.push(text);
    }
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(params!.exceptionDetails));
  }
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
