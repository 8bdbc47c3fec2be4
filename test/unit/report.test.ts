// The report of a run: what it shows of good, unfinished and hostile run folders, and that it is self-contained.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import { pathToFileURL } from 'node:url';
import { buildReport, writeReport } from '../../src/report/run/index.js';
import { type Element, elements } from '../support/markup.js';
import { writeRun } from '../support/run-folder.js';

const root = mkdtempSync(join(tmpdir(), 'groupgrad-report-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;

/** A run folder with some files. */
function folder(files: Record<string, string | object[]>): string {
  const dir = join(root, `run-${folders++}`);
  mkdirSync(dir);
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === 'string' ? content : content.map((line) => `${JSON.stringify(line)}\n`).join('');
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

function learned(steps: number): string {
  const dir = join(root, `run-${folders++}`);
  writeRun(dir, steps);
  return dir;
}

interface Curve {
  name: string;
  x: number[];
  y: (number | null)[];
  low?: (number | null)[];
  high?: (number | null)[];
}

interface Report {
  html: string;
  all: Element[];
  /** The curves of each chart by its title. */
  charts: Map<string, Curve[]>;
  /** The text of all elements of a class or name. */
  texts: (name: string) => string[];
}

async function report(dir: string): Promise<Report> {
  const html = await buildReport(dir);
  const all = elements(html);
  const titles = all.filter(({ name, attributes }) => name === 'title' && attributes.id).map(({ text }) => text);
  const data = all.filter(({ attributes }) => attributes.type === 'application/json');
  const charts = new Map(data.map(({ text }, i) => [titles[i], JSON.parse(text) as Curve[]]));
  const texts = (wanted: string) =>
    all.filter(({ name, attributes }) => name === wanted || attributes.class === wanted).map(({ text }) => text);
  return { html, all, charts, texts };
}

function curve({ charts }: Report, title: string, name?: string): Curve {
  const curves = charts.get(title);
  assert.ok(curves, `a chart named ${title} among ${[...charts.keys()].join(', ')}`);
  const found = name === undefined ? curves[0] : curves.find((c) => c.name === name);
  assert.ok(found, `a curve named ${name}`);
  return found;
}

describe('a run of 150 steps', () => {
  const page = report(learned(150));

  test('has a section or chart for everything recorded', async () => {
    const { texts, charts } = await page;
    assert.deepEqual(texts('h1').length, 1);
    assert.deepEqual(texts('h2'), [
      'Summary',
      'Reward',
      'Accuracy',
      'Policy',
      'HA-DW',
      'Optimisation',
      'Completions',
      'Other metrics',
      'Time',
      'Samples',
      'Configuration',
    ]);
    assert.deepEqual(
      [...charts.keys()],
      [
        'Reward',
        'Spread of the reward',
        'Share of groups without a gradient',
        'Groups sampled again',
        'Accuracy',
        'Accuracy by difficulty, in training',
        'Accuracy by difficulty, held-out',
        'Entropy',
        'KL divergence from the reference policy',
        'Clipped tokens',
        'Log-probs of sampler and policy',
        'Difficulty anchor',
        'Weights of advantages',
        'Loss',
        'Norm of the gradient',
        'Learning rate',
        'Length',
        'Share of truncated completions',
        'tokens',
        'Time of a step',
        'Tokens per second',
      ],
    );
    assert.deepEqual(
      charts.get('Accuracy by difficulty, in training')!.map(({ name }) => name),
      ['1', '2', '3', '4', '5', '6'],
    );
  });

  test('shows every step without averaging', async () => {
    const { x, y, low } = curve(await page, 'Entropy');
    assert.deepEqual(
      x,
      Array.from({ length: 150 }, (_, i) => i + 1),
    );
    assert.equal(y.length, 150);
    assert.equal(low, undefined);
    assert.ok(!(await page).html.includes('each point is the mean'));
  });

  test('bands reach from the smallest to the largest value of a step', async () => {
    const { low, high } = curve(await page, 'Length');
    assert.ok(low!.every((value) => value === 2) && high!.every((value) => value === 4));
  });

  test('shows the configuration with dotted paths', async () => {
    const codes = (await page).texts('code');
    assert.equal(codes[codes.indexOf('loss.surrogate.high') + 1], '0.28');
    assert.equal(codes[codes.indexOf('task.digits') + 1], '[1,2]');
  });

  test('loads nothing: no address, no attribute that loads, and a policy that forbids both', async () => {
    const { all } = await page;
    assertFree(await page, /https?:|url\(|@import|src=|href=|\bon\w+=|style=/i);
    const policy = all.find(({ attributes }) => attributes['http-equiv'] === 'Content-Security-Policy')!.attributes
      .content;
    const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
    const code = all.filter(({ name, attributes }) => name === 'script' && attributes.type === undefined);
    const style = all.filter(({ name }) => name === 'style');
    assert.deepEqual([code.length, style.length], [1, 1]);
    assert.equal(
      policy,
      `default-src 'none'; style-src ${hash(style[0].text)}; script-src ${hash(code[0].text)}; base-uri 'none'; form-action 'none'`,
    );
  });
});

test('shows first, last and best values with their steps', async () => {
  const metrics = [0.5, 0.25, 0.75, 0.625].map((reward, i) => ({ step: i + 1, reward }));
  const { texts, all } = await report(folder({ 'metrics.jsonl': metrics }));
  assert.deepEqual(texts('tile').slice(0, 2), ['Steps', 'Reward']);
  assert.ok(all.some(({ text }) => text === 'from 0.5; best 0.75 at step 3'));
  assert.deepEqual(texts('td').concat(texts('number')).slice(-4), ['0.5', '0.625', '0.25 ', '0.75 ']);
  assert.deepEqual(texts('small'), ['at 2', 'at 3']);
});

test('the loss is subtracted from forward and backward, and the unexplained rest is "everything else"', async () => {
  const timing = [1, 2].map((step) => ({
    step,
    time: 4 * step,
    'time/sampling': 1,
    'time/forward_backward': 2,
    'time/loss': 0.5,
    'time/step': 4,
    'time/checkpoint': 0.25,
  }));
  const page = await report(folder({ 'timing.jsonl': timing, 'metrics.jsonl': [{ step: 1 }, { step: 2 }] }));
  const parts = Object.fromEntries(page.charts.get('Time of a step')!.map(({ name, y }) => [name, y]));
  assert.deepEqual(parts, {
    sampling: [1, 1],
    'forward and backward': [1.5, 1.5],
    loss: [0.5, 0.5],
    checkpoint: [0.25, 0.25],
    'everything else': [0.75, 0.75],
  });
  assert.ok(page.texts('number').includes('37.5 %'));
  assert.ok(page.all.some(({ text }) => text === '8 s'));
});

test('long runs are shown in intervals that keep every extreme; the page says so and stays small', async () => {
  const steps = 20_000;
  const dir = learned(steps);
  const lines = readFileSync(join(dir, 'metrics.jsonl'), 'utf8').split('\n');
  lines[7776] = JSON.stringify({ ...JSON.parse(lines[7776]), grad_norm: 1234, entropy: null });
  writeFileSync(join(dir, 'metrics.jsonl'), lines.join('\n'));
  const page = await report(dir);
  assert.ok(page.html.length < 800_000, `${page.html.length} characters`);
  assert.match(
    page.html,
    /each point is the mean of 100 steps, and the band around it runs from the smallest to the largest/,
  );
  const { x, y, low, high } = curve(page, 'Norm of the gradient');
  assert.equal(x.length, 200);
  assert.equal(high![77], 1234);
  assert.ok(low!.every((value, i) => value! <= y[i]! && y[i]! <= high![i]!));
  const norms = lines.slice(7700, 7800).map((line) => JSON.parse(line).grad_norm as number);
  assert.equal(y[77], Number((norms.reduce((a, b) => a + b) / 100).toPrecision(4)));
  assert.ok(curve(page, 'Entropy').y.every((value) => value !== null));
  // Evaluations are rare: each one is part of some point.
  assert.equal(curve(page, 'Accuracy', 'held-out').y.length, 200);
});

test('steps that were repeated after a stop replace the earlier ones', async () => {
  const line = (step: number, reward: number) => ({ step, reward, ...(reward < 10 && { old: reward }) });
  const metrics = [line(1, 1), line(2, 2), line(3, 3), line(4, 4), line(3, 30), line(4, 40), line(5, 50)];
  const page = await report(folder({ 'metrics.jsonl': metrics }));
  assert.deepEqual(curve(page, 'Reward').x, [1, 2, 3, 4, 5]);
  assert.deepEqual(curve(page, 'Reward').y, [1, 2, 30, 40, 50]);
  assert.deepEqual(curve(page, 'old').x, [1, 2]);
});

test('an incomplete last line is not an error; other unreadable lines are counted', async () => {
  const dir = folder({ 'metrics.jsonl': [{ step: 1, reward: 1 }], 'samples.jsonl': '{"step": 1}\n{"ste' });
  appendFileSync(join(dir, 'metrics.jsonl'), '{"step": 2, "rew');
  const page = await report(dir);
  assert.deepEqual(curve(page, 'Reward').y, [1]);
  assert.deepEqual(page.texts('note'), ['There is no config.json.', '1 line of samples.jsonl could not be read.']);
  const bad = ['{"step": 1, "reward": 1}', 'nonsense', '[1]', 'null', '{"step": "2"}', '{"step": 3, "reward": 3}', ''];
  const other = await report(folder({ 'metrics.jsonl': bad.join('\n'), 'config.json': '{}' }));
  assert.deepEqual(curve(other, 'Reward').x, [1, 3]);
  assert.deepEqual(other.texts('note'), ['4 lines of metrics.jsonl could not be read.']);
});

test('null makes a gap, a missing value does not', async () => {
  const metrics = [{ step: 1, kl: 1 }, { step: 2, kl: null }, { step: 3, kl: 3 }, { step: 4 }, { step: 5, kl: 5 }];
  const page = await report(folder({ 'metrics.jsonl': metrics }));
  const { x, y } = curve(page, 'KL divergence from the reference policy');
  assert.deepEqual(x, [1, 2, 3, 5]);
  assert.deepEqual(y, [1, null, 3, 5]);
});

test('empty and half-empty runs have a page', async () => {
  const empty = await report(folder({}));
  assert.deepEqual(empty.texts('note'), ['No step has been recorded yet.', 'There is no config.json.']);
  assert.equal(empty.charts.size, 0);
  const begun = await report(folder({ 'config.json': '{"seed": 1}', 'metrics.jsonl': '', 'samples.jsonl': '' }));
  assert.deepEqual(begun.texts('h2'), ['Configuration']);
  const torn = await report(folder({ 'config.json': '{"seed": 1', 'metrics.jsonl': [{ step: 1 }] }));
  assert.match(torn.texts('note')[0], /^config\.json could not be read: /);
  for (const steps of [1, 2]) {
    const page = await report(learned(steps));
    assert.equal(page.charts.size, 21);
    assertFree(page, /NaN|Infinity|undefined/);
  }
  const odd = `"reward": 1e999, "kl": -1e308, "entropy": 1e308, "loss": 5e-324, "accuracy": "much", "tokens": {}`;
  const page = await report(folder({ 'metrics.jsonl': `{"step": 1, ${odd}}\n{"step": 2, ${odd}}\n` }));
  assert.deepEqual([...page.charts.keys()], ['Entropy', 'KL divergence from the reference policy', 'Loss']);
  assertFree(page, /NaN|Infinity|undefined/);
});

/** The page without a match, reported briefly: the page would be long. */
function assertFree({ html }: Report, pattern: RegExp): void {
  const match = pattern.exec(html);
  assert.equal(match && html.slice(match.index - 80, match.index + 80), null);
}

test('metrics without a predefined chart have their own charts, and if there are too many they are listed', async () => {
  const metrics = [Object.fromEntries([['step', 1], ...Array.from({ length: 30 }, (_, i) => [`mine/${i}`, i])])];
  const page = await report(folder({ 'metrics.jsonl': metrics }));
  assert.equal(page.charts.size, 24);
  assert.ok(
    page.html.includes('Further metrics without a chart: mine/24, mine/25, mine/26, mine/27, mine/28, mine/29.'),
  );
  const flood = Array.from({ length: 50 }, (_, s) =>
    Object.fromEntries([['step', s], ...Array.from({ length: 50 }, (_, i) => [`m${s}/${i}`, i])]),
  );
  const drowned = await report(folder({ 'metrics.jsonl': flood, 'config.json': '{}' }));
  assert.match(drowned.texts('note')[0], /^2100 or more metrics are left out/);
  assert.ok(drowned.html.length < 400_000);
});

test('samples are the latest, the best and the worst, newest first if equal', async () => {
  const samples = Array.from({ length: 40 }, (_, i) => ({
    step: i + 1,
    prompt: 'p',
    answer: 'a',
    completion: `completion ${i + 1}`,
    rewards: i === 35 ? { correct: null } : { correct: i % 2, brief: i === 4 ? -1 : 0 },
    advantage: i === 0 ? null : 0.5,
    truncated: i === 39,
    ...(i === 38 && { version: 37 }),
  }));
  const page = await report(folder({ 'metrics.jsonl': [{ step: 1 }], 'samples.jsonl': samples }));
  const shown = page.texts('pre').filter((text) => text.startsWith('completion'));
  const numbers = shown.map((text) => Number(text.slice(11)));
  assert.deepEqual(numbers.slice(0, 6), [40, 39, 38, 37, 36, 35]);
  assert.deepEqual(numbers.slice(6, 12), [40, 38, 34, 32, 30, 28]);
  assert.deepEqual(numbers.slice(12), [5, 39, 37, 35, 33, 31]);
  assert.deepEqual(page.texts('h3').slice(0, 3), ['Latest of 40', 'Highest rewards', 'Lowest rewards']);
  assert.equal(page.texts('wrong').filter((text) => text === 'truncated').length, 2);
  assert.equal(page.html.split('weights after step <b>37</b>').length - 1, 2);
  assert.ok(page.texts('b').includes('none'));
});

const attack = `"'><script>globalThis.pwned=1;document.title='pwned'</script><img src=x onerror="document.title='pwned'"><!--`;

/** A run in which every string is an attack. */
function hostileRun(): string {
  const nasty = `${attack}\u0000\u001b[2J\u202e\u2028\u200b\ud800</pre></script></title></style>`;
  const sample = {
    step: 1,
    prompt: nasty,
    answer: nasty,
    completion: nasty,
    rewards: { [nasty]: 1, x: 2 },
    advantage: 1,
  };
  return folder({
    'config.json': JSON.stringify({ [nasty]: nasty, list: [nasty], deep: { [nasty]: { [nasty]: 1 } } }),
    'metrics.jsonl': [
      {
        step: 1,
        reward: 1,
        [nasty]: 1,
        [`rewards/${nasty}/mean`]: 1,
        'rewards/b/mean': 2,
        [`eval/${nasty.replaceAll('/', '')}/accuracy`]: 1,
        [`accuracy/${nasty}`]: 1,
        constructor: 1,
        toString: 2,
        __proto__: 3,
      },
      { step: 2, ...JSON.parse('{"__proto__": 1}') },
    ],
    'timing.jsonl': [{ step: 1, [`time/${nasty}`]: 1, 'time/step': 2 }],
    'samples.jsonl': [sample, { ...sample, completion: 'x'.repeat(100_000) }],
  });
}

test('hostile text stays text, and invisible characters are made visible', async () => {
  const page = await report(hostileRun());
  const count = (name: string) => page.all.filter((element) => element.name === name).length;
  assert.equal(count('img'), 0);
  assert.equal(count('script'), page.charts.size + 1);
  assertFree(page, /[\p{Cf}\p{Cs}\u2028]|(?!\n)\p{Cc}/u);
  assert.ok(page.texts('pre').some((text) => text.includes(`${attack}␀␛[2J⟨U+202E⟩⟨U+2028⟩⟨U+200B⟩⟨U+D800⟩</pre>`)));
  assert.ok(page.texts('pre').some((text) => text.endsWith('… (96000 further characters)')));
});

test('a report is written atomically, next to the files that it was made from', async () => {
  const dir = folder({ 'metrics.jsonl': [{ step: 1, reward: 1 }] });
  const path = await writeReport(dir);
  assert.equal(path, join(dir, 'report.html'));
  assert.equal(readFileSync(path, 'utf8'), await buildReport(dir));
  assert.deepEqual(readdirSync(dir), ['metrics.jsonl', 'report.html']);
  const blocked = folder({});
  mkdirSync(join(blocked, 'report.html'));
  await assert.rejects(writeReport(blocked), { code: /EISDIR|ENOTEMPTY|EPERM|EEXIST/ });
  assert.deepEqual(readdirSync(blocked), ['report.html']);
});

test('a folder that does not exist is rejected by name', async () => {
  await assert.rejects(buildReport(join(root, 'nowhere')), { name: 'TypeError', message: /^runDir: .*nowhere/ });
  await assert.rejects(buildReport(1 as never), { name: 'TypeError', message: /^runDir: .*got 1/ });
  await assert.rejects(writeReport(join(root, 'nowhere')), { name: 'TypeError', message: /^runDir/ });
});

const browser = process.env.GROUPGRAD_CHROMIUM ?? 'chromium';
const hasBrowser = spawnSync(browser, ['--version']).status === 0;

test("a browser runs the page's script and no other", { skip: !hasBrowser && `${browser} was not found` }, async () => {
  for (const [dir, isHostile] of [
    [learned(30), false],
    [hostileRun(), true],
  ] as const) {
    const path = await writeReport(dir);
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
    const profile = join(root, `profile-${folders++}`);
    const address = pathToFileURL(path).href;
    const { stdout } = spawnSync(browser, [...flags, `--user-data-dir=${profile}`, '--dump-dom', address], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
      timeout: 60_000,
    });
    const count = (pattern: RegExp) => stdout.match(pattern)?.length ?? 0;
    const figures = count(/<figure>/g);
    assert.ok(figures > 0);
    // The script puts a pane over every chart: its hash was accepted.
    assert.equal(count(/<div class="glass">/g), figures);
    assert.equal(/<title>([^<]*)/.exec(stdout)![1].startsWith('run-'), true);
    if (isHostile) assert.equal(count(/<img/g), 0);
  }
});

test('warnings come before everything else, with the steps in which their conditions held', async () => {
  const steps = Array.from({ length: 12 }, (_, i) => ({
    step: i + 1,
    reward: 0.5,
    ...(i >= 9 && { 'health/no_gradient': 1 }),
    ...(i === 4 && { 'health/truncated': 1 }),
  }));
  const files = {
    'metrics.jsonl': steps,
    'warnings.jsonl': [
      { step: 5, warning: 'step 5: cut off <here>' },
      { step: 10, warning: 'step 10: none had a gradient' },
    ],
    'config.json': '{"notation": "Numbers are <reversed>."}',
    'samples.jsonl': [{ step: 1, prompt: '1+2=', answer: '3', completion: '3', rewards: { a: 1 } }],
  };
  const { html, texts, charts } = await report(folder(files));
  assert.deepEqual(texts('li'), ['step 5: cut off <here>', 'step 10: none had a gradient']);
  const headings = texts('h2');
  assert.ok(headings.indexOf('Warnings') < headings.indexOf('Summary') && headings.includes('Samples'));
  const cells = texts('td').join(' ');
  assert.deepEqual(texts('code').slice(0, 2), ['health/truncated', 'health/no_gradient']);
  assert.match(cells, / 1 5 5 {2}3 10 12 /);
  // Shown as text, without a chart of ones.
  assert.ok(![...charts.keys()].some((title) => title.startsWith('health/')));
  assert.ok(html.includes('Numbers are &#60;reversed&#62;.'));
  const without = await report(folder({ 'metrics.jsonl': steps.slice(0, 4) }));
  assert.ok(!without.html.includes('<h2>Warnings</h2>'));
});
