// `groupgrad watch`: what its server sends and rejects, and how a browser uses it to follow a run.

import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { watchRun } from '../../src/watch/server.js';
import { BrowserPage, noBrowser } from '../support/browser.js';
import { root } from '../support/installed.js';
import { assertReadable, type Layout } from '../support/layout.js';
import { elements } from '../support/markup.js';
import { writeRun } from '../support/run-folder.js';
import { snippetsOf } from '../support/snippets.js';
import { temporaryFolder } from '../support/trainer.js';

const interval = 50;
const hostile =
  '</pre></main><script>document.title = "hacked"</script><img src=x onerror="document.title=\'hacked\'">';

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

/** A request with any headers and method; fetch would reject some. */
async function ask(url: string, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  const sent = request(url, { path, method, headers, agent: false }).end();
  const [response] = await once(sent, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode, headers: response.headers, text };
}

/** The server's response to raw bytes. */
async function send(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.end(bytes);
  let text = '';
  for await (const chunk of socket.setEncoding('utf8')) text += chunk;
  return text;
}

/** A run of some steps, watched until the test ends. */
async function watched(t: TestContext, steps = 30): Promise<{ dir: string; url: string }> {
  const dir = join(temporaryFolder(t), 'run');
  writeRun(dir, steps);
  const { url, close } = await watchRun(dir, { port: 0, interval });
  t.after(close);
  return { dir, url };
}

/** The versions in the event stream, in order. */
async function events(t: TestContext, url: string): Promise<{ next: () => Promise<string>; isOpen: () => boolean }> {
  const sent = request(new URL('/events', url)).end();
  t.after(() => sent.destroy());
  const [response] = await once(sent, 'response');
  assert.equal(response.headers['content-type'], 'text/event-stream; charset=utf-8');
  const versions: string[] = [];
  let wake = () => {};
  let isOpen = true;
  response.setEncoding('utf8').on('data', (text: string) => {
    versions.push(...Array.from(text.matchAll(/^data: (.+)$/gm), ([, version]) => version));
    wake();
  });
  response.on('close', () => {
    isOpen = false;
  });
  const next = async () => {
    while (versions.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return versions.shift()!;
  };
  return { next, isOpen: () => isOpen };
}

/** The first output of a program; an error if it ends before. */
async function firstLine(child: ChildProcessWithoutNullStreams): Promise<string> {
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ended = once(child, 'close').then(([code]) => assert.fail(`it ended with ${code}: ${errors}`));
  const [line] = await Promise.race([once(child.stdout.setEncoding('utf8'), 'data'), ended]);
  return String(line).trim();
}

function addStep(dir: string, step: number, change: object = {}): void {
  appendFileSync(join(dir, 'metrics.jsonl'), `${JSON.stringify({ step, reward: 0.5, ...change })}\n`);
}

const versionOf = (html: string) => /<main data-version="(\w+)">/.exec(html)![1];

test('the page is the current report, with headers that forbid everything else', async (t) => {
  const { dir, url } = await watched(t);
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
  const { status, headers, text } = await ask(url, '/');
  assert.equal(status, 200);
  assert.equal(headers['content-type'], 'text/html; charset=utf-8');
  assert.equal(headers['cache-control'], 'no-store');
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['access-control-allow-origin'], undefined);
  const policy = elements(text).find(({ attributes }) => attributes['http-equiv'])!.attributes.content;
  assert.match(policy, /^default-src 'none'; .*connect-src 'self'; base-uri 'none'; form-action 'none'$/);
  assert.doesNotMatch(policy, /unsafe|\*|http/);
  assert.equal(headers['content-security-policy'], `${policy}; frame-ancestors 'none'`);
  assert.match(text, /<h1>run<\/h1>/);
  addStep(dir, 31);
  const later = await ask(url, '/');
  assert.notEqual(versionOf(later.text), versionOf(text));
  assert.match(later.text, /<b>31<\/b>Steps/);
  assert.deepEqual(await ask(url, '/', {}, 'HEAD').then(({ status, text }) => [status, text]), [200, '']);
});

test('rejects other names of this machine, other methods and other paths', async (t) => {
  const { url } = await watched(t);
  const { port } = new URL(url);
  for (const host of [`localhost:${port}`, `LOCALHOST`, '127.0.0.1', '127.0.0.1:1', '[::1]:8000']) {
    assert.equal((await ask(url, '/', { host })).status, 200, host);
  }
  const others = [
    'evil.example',
    `evil.example:${port}`,
    'localhost.evil.example',
    '127.0.0.1.nip.io',
    'evil.example/127.0.0.1',
    'user@localhost',
    '127.0.0.1:80:80',
    '0.0.0.0',
    '192.168.0.7',
    '[::]',
    '2130706433',
    'localhost:',
  ];
  for (const path of ['/', '/events', '/other']) {
    for (const host of others) {
      const { status, text } = await ask(url, path, { host });
      assert.equal(status, 421, `${host}${path}`);
      assert.doesNotMatch(text, /html|reward|evil/);
    }
  }
  assert.match(await send(url, 'GET / HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 421 /);
  assert.match(await send(url, 'GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 421 /);
  assert.match(await send(url, 'GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n'), /^HTTP\/1\.1 4/);
  assert.match(
    await send(url, 'GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    /^HTTP\/1\.1 404 /,
  );
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    const { status, headers } = await ask(url, '/', {}, method);
    assert.deepEqual([status, headers.allow], [405, 'GET, HEAD']);
  }
  for (const path of ['/config.json', '/metrics.jsonl', '/..%2f..%2fetc%2fpasswd', '//', '/events/']) {
    const { status, headers, text } = await ask(url, path);
    assert.deepEqual([status, text], [404, 'not found: the report is at /\n'], path);
    assert.match(String(headers['content-security-policy']), /default-src 'none'/);
  }
});

test('listens only on the loopback address', async (t) => {
  const { url } = await watched(t);
  const hex = Number(new URL(url).port).toString(16).toUpperCase().padStart(4, '0');
  let sockets: string;
  try {
    sockets = ['tcp', 'tcp6'].map((name) => readFileSync(`/proc/self/net/${name}`, 'utf8')).join('\n');
  } catch {
    t.skip('this system does not list its sockets');
    return;
  }
  // State 0A means listening.
  const listening = Array.from(sockets.matchAll(/: ([0-9A-F]+):([0-9A-F]{4}) [0-9A-F:]+ 0A /g));
  assert.deepEqual(
    listening.filter(([, , port]) => port === hex).map(([, address]) => address),
    ['0100007F'],
  );
});

test('sends an event for every file that the report is made from, and for nothing else', async (t) => {
  const { dir, url } = await watched(t);
  const { next } = await events(t, url);
  let version = await next();
  assert.equal(version, versionOf((await ask(url, '/')).text));
  mkdirSync(join(dir, 'faults'));
  const changes: Record<string, () => void> = {
    metrics: () => addStep(dir, 31),
    timing: () => appendFileSync(join(dir, 'timing.jsonl'), '{"step":31,"time":9}\n'),
    samples: () => appendFileSync(join(dir, 'samples.jsonl'), '{"step":31,"completion":"7"}\n'),
    warnings: () => appendFileSync(join(dir, 'warnings.jsonl'), '{"step":31,"warning":"no gradient"}\n'),
    config: () => writeFileSync(join(dir, 'config.json'), '{"seed": 1}'),
    'config of the same size': () => {
      const { mtimeMs } = statSync(join(dir, 'config.json'));
      writeFileSync(join(dir, 'config.json'), '{"seed": 2}');
      utimesSync(join(dir, 'config.json'), new Date(), new Date(mtimeMs + 2000));
    },
    faults: () => writeFileSync(join(dir, 'faults', 'step-00000031.json'), '{\n "step": 31\n}'),
  };
  for (const change of Object.values(changes)) {
    change();
    const now = versionOf((await ask(url, '/')).text);
    assert.notEqual(now, version);
    version = now;
    // A file may also have been seen half written.
    while ((await next()) !== version);
  }
  writeFileSync(join(dir, 'report.html'), 'another report');
  assert.equal(versionOf((await ask(url, '/')).text), version);
});

test("shows the guard's actions, and escapes all text", async (t) => {
  const { dir, url } = await watched(t);
  mkdirSync(join(dir, 'faults'));
  const fault = (step: number, values: object) =>
    writeFileSync(
      join(dir, 'faults', `step-${String(step).padStart(8, '0')}.json`),
      `${JSON.stringify({ step, ...values, groups: [{ action: 'halt', reason: 'x'.repeat(100_000) }] }, null, 1)}\n`,
    );
  fault(3, { reason: `a reward of NaN "${hostile}`, action: 'skip' });
  fault(4, { reason: 'a loss', action: 'rollback' });
  fault(5, { reason: 'a gradient', action: 'halt' });
  fault(6, { reason: 'from before' });
  writeFileSync(join(dir, 'faults', 'notes.txt'), hostile);
  writeFileSync(join(dir, 'warnings.jsonl'), `${JSON.stringify({ step: 3, warning: hostile })}\n`);
  const sample = { step: 31, prompt: hostile, completion: hostile, answer: hostile, rewards: { [hostile]: 1 } };
  appendFileSync(join(dir, 'samples.jsonl'), `${JSON.stringify(sample)}\n`);
  const { text } = await ask(url, '/');
  const all = elements(text);
  const items = all.filter(({ name }) => name === 'li').map(({ text }) => text);
  assert.equal(items.length, 5);
  assert.equal(items[0], hostile);
  assert.ok(items[1].startsWith(`step 3: a reward of NaN "${hostile}. The guard skipped the step.`));
  assert.ok(items[2].startsWith('step 4: a loss. The guard went back to the newest checkpoint.'));
  assert.ok(items[3].startsWith('step 5: a gradient. The guard ended the run.'));
  assert.ok(items[4].startsWith('step 6: from before. Its completions are in'));
  assert.ok(all.some(({ name, text }) => name === 'pre' && text === hostile));
  assert.ok(!all.some(({ name }) => name === 'img'));
  assert.equal(all.filter(({ name, attributes }) => name === 'script' && !attributes.type).length, 1);
});

test('many concurrent requests build one report, and a folder that has gone is reported and may come back', async (t) => {
  const { dir, url } = await watched(t);
  const pages = await Promise.all(Array.from({ length: 20 }, () => ask(url, '/')));
  assert.equal(new Set(pages.map(({ text }) => text)).size, 1);
  renameSync(dir, `${dir}-away`);
  const { status, text } = await ask(url, '/');
  assert.equal(status, 503);
  assert.match(text, /expected a run folder/);
  renameSync(`${dir}-away`, dir);
  assert.equal((await ask(url, '/')).status, 200);
});

test('streams are limited, end with the server, and are forgotten when their pages close', async (t) => {
  const dir = temporaryFolder(t);
  writeRun(dir, 2);
  const { url, close } = await watchRun(dir, { port: 0, interval });
  const streams = await Promise.all(Array.from({ length: 64 }, () => events(t, url)));
  await Promise.all(streams.map(({ next }) => next()));
  assert.equal((await ask(url, '/events')).status, 503);
  assert.equal((await ask(url, '/')).status, 200);
  await close();
  await assert.rejects(ask(url, '/'), /ECONNREFUSED/);
  assert.ok(streams.every(({ isOpen }) => !isOpen()));
  const other = await watchRun(dir, { port: 0, interval });
  t.after(other.close);
  for (let i = 0; i < 130; i++) {
    const sent = request(new URL('/events', other.url)).end();
    const [response] = await once(sent, 'response');
    assert.equal(response.statusCode, 200, `stream ${i}`);
    response.destroy();
    await once(response, 'close');
    // The server notices it a moment later.
    if (i % 32 === 31) await new Promise((resolve) => setTimeout(resolve, 100));
  }
});

test('the command prints the address, follows the run, and ends with a signal; a port in use is reported', async (t) => {
  const dir = temporaryFolder(t);
  writeRun(dir, 3);
  const program = join(root, 'dist', 'cli', 'main.js');
  const start = (...args: string[]) => spawn(process.execPath, [program, 'watch', ...args], { cwd: root });
  const child = start(dir, '--port', '0');
  t.after(() => child.kill('SIGKILL'));
  const url = await firstLine(child);
  assert.equal((await ask(url, '/')).status, 200);
  const taken = start(dir, '--port', new URL(url).port);
  const [[message], [code]] = await Promise.all([once(taken.stderr.setEncoding('utf8'), 'data'), once(taken, 'exit')]);
  assert.equal(code, 2);
  assert.match(message, /^groupgrad: --port: expected a free port: .*EADDRINUSE/);
  await events(t, url);
  child.kill('SIGINT');
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
});

test('the function for MLflow sends what its REST interface requires', async (t) => {
  interface Call {
    path: string;
    body: Record<string, unknown>;
  }
  const calls: Call[] = [];
  const server = createServer(async (asked, response) => {
    let text = '';
    for await (const chunk of asked) text += chunk;
    calls.push({ path: `${asked.method} ${asked.url}`, body: JSON.parse(text) });
    response.end(JSON.stringify(asked.url!.endsWith('/create') ? { run: { info: { run_id: 'abc' } } } : {}));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const [{ code }] = snippetsOf(join('docs', 'watch.md')).filter(({ language }) => language === 'ts');
  const path = join(temporaryFolder(t), 'mlflow.ts');
  writeFileSync(path, code);
  const { trainWithMlflow } = await import(pathToFileURL(path).href);
  const { port } = server.address() as AddressInfo;
  const trainer = {
    async *steps({ max }: { max: number }) {
      for (let index = 1; index <= max; index++) {
        yield { index, metrics: { reward: 0.5, kl: Number.NaN }, timing: { 'time/step': 2 } };
      }
      if (max === 3) throw new Error('the training failed');
    },
  };
  const url = `http://127.0.0.1:${port}`;
  await trainWithMlflow(trainer, 2, url);
  const root = 'POST /api/2.0/mlflow/runs/';
  assert.deepEqual(
    calls.map(({ path }) => path),
    ['create', 'log-batch', 'log-batch', 'update'].map((name) => root + name),
  );
  assert.equal(calls[0].body.experiment_id, '0');
  const { run_id, metrics } = calls[2].body as { run_id: string; metrics: Record<string, unknown>[] };
  assert.equal(run_id, 'abc');
  assert.deepEqual(
    metrics.map(({ timestamp, ...metric }) => [Number.isSafeInteger(timestamp), metric]),
    [
      [true, { key: 'reward', value: 0.5, step: 2 }],
      [true, { key: 'time/step', value: 2, step: 2 }],
    ],
  );
  assert.equal(calls[3].body.status, 'FINISHED');
  await assert.rejects(trainWithMlflow(trainer, 3, url, '7'), /the training failed/);
  assert.equal(calls[4].body.experiment_id, '7');
  assert.equal(calls.at(-1)!.body.status, 'FAILED');
});

const measure = readFileSync(join(root, 'test', 'support', 'measure-page.browser.js'), 'utf8');

for (const width of [390, 1160]) {
  test(`a browser ${width} pixels wide follows a run`, { skip: noBrowser }, async (t) => {
    const dir = join(temporaryFolder(t), 'run');
    writeRun(dir, 3);
    const sample = { step: 3, prompt: hostile, completion: hostile, answer: hostile, rewards: { correct: 1 } };
    appendFileSync(join(dir, 'samples.jsonl'), `${JSON.stringify(sample)}\n`);
    const { url, close } = await watchRun(dir, { port: 0, interval });
    let isClosed = false;
    t.after(() => (isClosed ? undefined : close()));
    const page = await BrowserPage.open(url, width);
    t.after(() => page.close());
    const line = `document.querySelector('.follow')`;
    await page.until(`${line}?.textContent.startsWith('Following this run')`);
    await page.evaluate(`globalThis.first = document.querySelector('.config'), scrollTo(0, 300), 0`);
    for (let step = 4; step <= 40; step++) addStep(dir, step);
    await page.until(`document.querySelector('.tile b').textContent === '40'`);
    // Still the same page, with everything that has not changed: configuration, scroll position, and interactive charts.
    assert.ok(await page.evaluate(`first === document.querySelector('.config')`));
    assert.ok((await page.evaluate<number>('scrollY')) > 100);
    const glasses = `[...document.querySelectorAll('figure')].every((figure) => figure.querySelectorAll('.glass').length === 1)`;
    assert.ok(await page.evaluate(glasses));
    assert.equal(await page.evaluate('document.title'), 'run · groupgrad');
    assert.ok(
      await page.evaluate(
        `[...document.querySelectorAll('pre')].some((e) => e.textContent === ${JSON.stringify(hostile)})`,
      ),
    );
    const layout = await page.evaluate<Layout>(`${measure}; measurePage(document)`);
    if (width === 390) assertReadable(layout);
    else assert.deepEqual([layout.outside, layout.broken, layout.wideTables], [[], [], 0]);
    assert.ok((await page.screenshot()).length > 10_000);
    // The browser itself logs what follows as an error.
    assert.deepEqual(page.complaints, []);
    rmSync(dir, { recursive: true });
    await page.until(`${line}.textContent.includes('expected a run folder')`);
    assert.equal(await page.evaluate(`document.querySelector('.tile b').textContent`), '40');
    const { port } = new URL(url);
    await close();
    isClosed = true;
    await page.until(`${line}.textContent.startsWith('No connection')`);
    writeRun(dir, 50);
    const again = await watchRun(dir, { port: Number(port), interval });
    t.after(again.close);
    await page.until(`document.querySelector('.tile b').textContent === '50'`);
    await page.until(`${line}.textContent.startsWith('Following this run')`);
  });
}
