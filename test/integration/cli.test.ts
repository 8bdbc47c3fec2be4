// The command line: its output, its files and its exit codes.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import test, { describe, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { setPath } from '../../src/config/load.js';
import { quickBackend } from '../support/backend.js';
import { callInThread } from '../support/cli.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { readLines, temporaryFolder } from '../support/trainer.js';

const program = [join(root, 'dist', 'cli', 'main.js')];

function groupgrad(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...program, ...args], {
    cwd: root,
    encoding: 'utf8',
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

/** A run that takes a second or two. */
const tiny = {
  train: { task: 'addition', digits: 1 },
  evaluate: { same: { task: 'addition', digits: 1, size: 20 } },
  policy: { layers: 1, width: 8, heads: 2, hidden: 12 },
  promptsPerStep: 4,
  groupSize: 4,
  evaluation: { every: 2 },
  loss: 'grpo',
  backend: quickBackend,
  steps: 4,
};

function writeConfig(t: TestContext, name: string, content: string): { file: string; runDir: string } {
  const folder = temporaryFolder(t);
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return { file, runDir: join(folder, 'run') };
}

describe('groupgrad', () => {
  test('says what it can, and which it is', () => {
    const { status, stdout } = callInThread('--help');
    assert.equal(status, 0);
    for (const command of ['train', 'evaluate', 'sample', 'compare', 'report', 'watch', 'build', 'doctor']) {
      assert.match(stdout, new RegExp(`^ {2}${command} `, 'm'));
      const help = callInThread(command, '--help');
      assert.equal(help.status, 0);
      assert.ok(help.stdout.startsWith(`groupgrad ${command} `), help.stdout);
    }
    assert.match(
      callInThread('train', '--help').stdout,
      /tasks:\n +addition, bandit, chain, copy, countdown, .*sudoku\n/,
    );
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    assert.equal(callInThread('--version').stdout, `${version}\n`);
  });

  test('the help of every command fits into 120 columns', () => {
    const usage = callInThread('--help').stdout;
    const commands = Array.from(usage.matchAll(/^ {2}(\w+) /gm), ([, name]) => name);
    assert.ok(commands.length >= 14, usage);
    for (const text of [usage, ...commands.map((name) => callInThread(name, '--help').stdout)]) {
      for (const line of text.split('\n')) assert.ok(line.length <= 120, line);
    }
    // Settings can be typed as they are listed.
    const help = callInThread('train', '--help').stdout.replaceAll(/\s+/g, ' ');
    const listed =
      'promptsPerStep=16, groupSize=8, loss.preset=dapo, optimizer.learningRate=0.000001, evaluation.every=25,';
    assert.ok(help.includes(`which --set changes: ${listed}`), help);
    assert.ok(help.endsWith('; with an adapter, optimizer.learningRate=0.00001. '), help);
  });

  test('exits with 2 after incorrect usage, with a message', () => {
    const wrong: [string[], RegExp][] = [
      [['tarin'], /^groupgrad: expected a command, got "tarin"/],
      [['train'], /^groupgrad: expected a task or configuration file, got nothing\n$/],
      [['train', 'a', 'b'], /^groupgrad: expected a task or configuration file, got a b\n$/],
      [['train', 'addition', '--step', '3'], /^groupgrad: --step: unknown flag; did you mean --steps\?\n/],
      [['train', 'addition', '--steps', 'many'], /^groupgrad: --steps: expected an integer at least 0, got "many"\n$/],
      [['build', '--cuda', 'yes'], /^groupgrad: --cuda: expected one of on, off, auto, got "yes"\n$/],
      [
        ['evaluate', 'x', '--backend', 'webgl'],
        /^groupgrad: --backend: expected one of groupgrad, tensorflow, wasm, cpu/,
      ],
      [['train', 'adition'], /^groupgrad: adition: no such file, and no built-in configuration \(.*addition/],
      [['watch', '/nowhere'], /^groupgrad: \/nowhere: expected a run folder, got one without config\.json\n$/],
      [
        ['watch', '/nowhere', '--port', '70000'],
        /^groupgrad: --port: expected an integer at least 0 and at most 65535/,
      ],
      [['report', '/nowhere'], /^groupgrad: \/nowhere: expected a run folder or/],
      [
        ['train', 'addition', '--set', 'groupSize=1'],
        /^groupgrad: --set groupSize: expected an integer at least 2, got 1\n$/,
      ],
    ];
    for (const [args, message] of wrong) {
      const { status, stdout, stderr } = callInThread(...args);
      assert.equal(status, 2, args.join(' '));
      assert.match(stderr, message);
      assert.equal(stdout, '');
    }
    assert.equal(callInThread().status, 2);
  });

  test('doctor reports devices and backends, and why some are missing', () => {
    const { status, stdout } = callInThread('doctor', '--json');
    assert.equal(status, 0);
    const { devices, backends } = JSON.parse(stdout) as Record<
      string,
      { name: string; available: boolean; detail: string }[]
    >;
    assert.deepEqual(
      devices.map(({ name }) => name),
      ['cuda', 'cpu', 'reference'],
    );
    assert.ok(backends.find(({ name }) => name === 'cpu')?.available);
    for (const { detail } of [...devices, ...backends]) assert.ok(detail.length > 0);
    const text = callInThread('doctor').stdout;
    assert.match(text, /^groupgrad [\d.]+, Node v[\d.]+, .*^ {2}✓ cpu +@tensorflow\/tfjs-backend-cpu$/ms);
    for (const title of ['Native addon', 'Devices', 'TensorFlow.js backends', 'Loss inside TensorFlow', 'Python']) {
      assert.match(text, new RegExp(`^${title}`, 'm'));
    }
    for (const line of text.split('\n')) assert.ok(line.length <= 80, line);
  });

  test('train, resume, evaluate, sample and report, from a JSON file', (t) => {
    const { file, runDir } = writeConfig(t, 'tiny.json', JSON.stringify(tiny));
    const first = groupgrad(
      'train',
      file,
      '--run',
      runDir,
      '--set',
      'groupSize=2',
      '--set',
      'hadw.scale=1.1',
      '--seed',
      '5',
    );
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stdout, /^step 4\/4 .*\nsame: [\d.]+ % of 20 right\ndone after step 4; see .*run\n$/ms);
    // The evaluation after the last step is printed once.
    const evaluations = first.stdout.split('\n').filter((line) => /\bsame\b/.test(line));
    assert.deepEqual(
      evaluations.map((line) => /^(step \d|same)/.exec(line)?.[0]),
      ['step 0', 'step 2', 'same'],
    );
    const config = JSON.parse(readFileSync(join(runDir, 'config.json'), 'utf8'));
    assert.deepEqual(config.notes.source, { from: file, set: ['groupSize=2', 'hadw.scale=1.1', 'seed=5'] });
    assert.equal(config.identity.settings.groupSize, 2);
    assert.equal(config.identity.settings.hadw.scale, 1.1);
    assert.equal(config.seed, 5);
    assert.ok(existsSync(join(runDir, 'report.html')));

    const drift = callInThread('train', file, '--run', runDir, '--steps', '6');
    assert.equal(drift.status, 1);
    assert.match(drift.stderr, /begun with other settings or data.*settings\.groupSize: 2, now 4/s);

    const flags = ['--set', 'groupSize=2', '--set', 'hadw.scale=1.1', '--seed', '5', '--steps', '6', '--json'];
    const second = groupgrad('train', file, '--run', runDir, ...flags);
    assert.equal(second.status, 0, second.stderr);
    assert.match(second.stderr, /continuing after step 4/);
    const lines = second.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      lines.map(({ step, steps }) => step ?? steps),
      [5, 6, 6],
    );
    assert.ok(typeof lines[0].reward === 'number' && typeof lines[0]['time/step'] === 'number');
    assert.deepEqual(Object.keys(lines[2]), ['ended', 'steps', 'run', 'evaluation']);
    const logged = readLines(join(runDir, 'metrics.jsonl'));
    assert.deepEqual(lines[2].evaluation, { same: logged[6]['eval/same/accuracy'] });
    assert.deepEqual(
      logged.map(({ step }) => step),
      [0, 1, 2, 3, 4, 5, 6],
    );

    const evaluated = callInThread('evaluate', runDir, '--json');
    assert.equal(evaluated.status, 0, evaluated.stderr);
    const { evaluation, step } = JSON.parse(evaluated.stdout) as {
      evaluation: { same: { accuracy: number } };
      step: number;
    };
    assert.equal(step, 6);
    // The run's own evaluation with the same weights.
    assert.equal(evaluation.same.accuracy, logged[6]['eval/same/accuracy']);
    const other = callInThread('evaluate', runDir, '--task', '{"task":"addition","digits":[1,1]}', '--size', '7');
    assert.match(other.stdout, /addition of 1 digit: [\d.]+ % of 7 right/);

    const sampled = callInThread('sample', runDir, '1+2=', '--count', '3', '--json');
    assert.equal(sampled.status, 0, sampled.stderr);
    const completions = sampled.stdout.trimEnd().split('\n');
    assert.equal(completions.length, 3);
    const sampledKeys = ['prompt', 'completion', 'truncated', 'logProb', 'answer', 'score'];
    assert.deepEqual(Object.keys(JSON.parse(completions[0])), sampledKeys);
    for (const line of completions) {
      const { completion, truncated, answer, score } = JSON.parse(line);
      assert.equal(score, !truncated && completion === '3' ? 1 : 0);
      const digits = !truncated && /^\d+$/.test(completion);
      assert.equal(answer, digits ? [...completion].reverse().join('') : null);
    }
    assert.equal(callInThread('sample', runDir, '1+2=', '--count', '3', '--json').stdout, sampled.stdout);
    assert.match(callInThread('sample', runDir, '1*2=').stderr, /^groupgrad: text: expected characters of/);
    assert.match(callInThread('sample', runDir, '').stderr, /^groupgrad: prompt: expected a non-empty string, got ""/);

    // Neither a complete run nor one whose last step is not evaluated has its result yet.
    for (const steps of ['6', '7']) {
      const more = callInThread('train', file, '--run', runDir, ...flags.slice(0, 6), '--steps', steps);
      assert.match(more.stdout, new RegExp(`\nsame: [\\d.]+ % of 20 right\ndone after step ${steps}; see`));
      assert.equal(more.stdout.match(/\bsame\b/g)!.length, 1, more.stdout);
    }

    assert.match(callInThread('report', runDir).stdout, /report\.html\n$/);
  });

  test('a TypeScript file with user-defined rewards, relative imports and a user-defined policy', (t) => {
    const { file, runDir } = writeConfig(
      t,
      'nested/mine.config.ts',
      `import { defineConfig, defineReward, tasks, TransformerPolicy } from 'groupgrad';
      import { weight } from './weight.ts';
      const train = tasks.addition({ digits: 1, seed: 3 });
      export default defineConfig({
        ...(${JSON.stringify({ ...tiny, train: undefined, policy: undefined })} as object),
        train,
        policy: () => TransformerPolicy.create({ layers: 1, width: 8, heads: 2, hidden: 12, vocabulary: train.characters }),
        rewards: [defineReward('short', ({ completion }) => -completion.tokens.length, { weight })],
      });`,
    );
    writeFileSync(join(dirname(file), 'weight.ts'), 'export const weight: number = 0.25;\n');
    const { status, stderr } = groupgrad('train', file, '--run', runDir);
    assert.equal(status, 0, stderr);
    const config = JSON.parse(readFileSync(join(runDir, 'config.json'), 'utf8'));
    assert.equal(config.identity.rewards[0].weight, 0.25);
    assert.ok('rewards/short/mean' in readLines(join(runDir, 'metrics.jsonl'))[1]);
    const { stdout } = callInThread('sample', runDir, '1+2=');
    // A policy that has learnt nothing: whatever it says is judged.
    assert.match(
      stdout,
      /^[\d+=]*…? {2}\(.*wrong; 3 is right\)\nNumbers are written from the last digit to the first\.\n$/,
    );
  });

  test('sample shows the meaning of an answer, and whether it is right', (t) => {
    // A table of which character follows which: "=" is followed by 64 and the end, whatever comes before.
    const { file, runDir } = writeConfig(
      t,
      'table.ts',
      `import * as tf from '${pathToFileURL(createRequire(import.meta.url).resolve('@tensorflow/tfjs-core'))}';
      import { characterVocabulary } from 'groupgrad';
      import { definePolicy } from 'groupgrad/tfjs';
      const words = characterVocabulary('0123456789+=');
      const [six, four, equals] = words.encode('64=');
      const policy = () => {
        const table = tf.buffer([words.size, words.size]);
        for (const [from, to] of [[equals, six], [six, four], [four, words.end]]) table.set(9, from, to);
        const follows = tf.variable(table.toTensor());
        const logits = ({ sequences, length, tokens }, from = 0) => tf.tidy(() => {
          const read = tf.slice(tf.tensor2d(tokens, [sequences, length], 'int32'), [0, from]);
          const rows = tf.oneHot(tf.reshape(read, [-1]), words.size);
          return tf.matMul(tf.cast(rows, 'float32'), follows);
        });
        return definePolicy({ vocabulary: words, variables: { follows }, logits });
      };
      export default { train: { task: 'addition', digits: 2 }, policy, backend: 'cpu', steps: 0 };`,
    );
    const made = callInThread('train', file, '--run', runDir);
    assert.equal(made.status, 0, made.stderr);
    const says = (prompt: string, ...flags: string[]) => callInThread('sample', runDir, prompt, ...flags).stdout;
    const note = 'Numbers are written from the last digit to the first.\n';
    assert.equal(says('12+34='), `64  (46, right)\n${note}`);
    assert.equal(says('12+35='), `64  (46, wrong; 47 is right)\n${note}`);
    assert.equal(says('12+34=', '--max-tokens', '2'), `64…  (cut off after 2 tokens, wrong; 46 is right)\n${note}`);
    // Not a problem of the task: only the meaning of the answer is shown.
    assert.equal(says('12+='), `64  (46)\n${note}`);
    assert.deepEqual(JSON.parse(says('12+34=', '--json')).score, 1);
  });

  test('errors in a configuration name its file or the path in it, and exit with 1; errors in flags exit with 2', (t) => {
    const refused = (name: string, content: string, message: RegExp, ...flags: string[]) => {
      const { file, runDir } = writeConfig(t, name, content);
      const { status, stderr } = callInThread('train', file, '--run', runDir, ...flags);
      assert.equal(status, flags.length > 0 || name.endsWith('.yaml') ? 2 : 1, stderr);
      assert.match(stderr, message);
      assert.ok(!existsSync(runDir), 'a run folder was made');
    };
    const json = (change: object) => JSON.stringify({ ...tiny, ...change });
    refused('a.json', '{ "train": ', /^groupgrad: .*a\.json: /);
    refused('a.ts', 'export default {', /^groupgrad: .*a\.ts: /);
    refused(
      'a.ts',
      'export const config = 3; export default config;',
      /a\.ts: expected a configuration as its default export, got 3/,
    );
    refused('a.yaml', 'train: addition', /^groupgrad: config: expected a TypeScript, JavaScript or JSON file/);
    refused('a.json', json({ train: { task: 'adition' } }), /^groupgrad: train\.task: expected one of 'addition'/);
    refused(
      'a.json',
      json({ train: { task: 'addition', digits: 9 } }),
      /^groupgrad: train\.digits: expected an integer/,
    );
    refused(
      'a.json',
      json({ groupSize: 'eight' }),
      /^groupgrad: groupSize: expected an integer at least 2, got "eight"/,
    );
    refused('a.json', json({ loss: 'gpro' }), /^groupgrad: loss\.preset: expected one of 'grpo'/);
    refused('a.json', json({ runDir: 'x' }), /^groupgrad: runDir: expected nothing/);
    refused(
      'a.json',
      json({}),
      /^groupgrad: --set sampling\.temperature: expected a finite number/,
      '--set',
      'sampling.temperature=0',
    );
    refused('a.json', json({}), /^groupgrad: --set: expected path=value, got "x"/, '--set', 'x');
    refused(
      'a.json',
      json({}),
      /^groupgrad: --set loss\.kl\.beta: expected loss to be an object/,
      '--set',
      'loss.kl.beta=1',
    );
  });

  test('a dry run shows the settings, makes a step and writes nothing', (t) => {
    const { file, runDir } = writeConfig(t, 'tiny.json', JSON.stringify({ ...tiny, loss: { preset: 'gspo' } }));
    const { status, stdout, stderr } = callInThread(
      'train',
      file,
      '--run',
      runDir,
      '--dry-run',
      '--set',
      'loss.kl.beta=0.5',
    );
    assert.equal(status, 0, stderr);
    assert.match(
      stdout,
      /"ratio": "sequence".*"beta": 0\.5.*one step of two prompts took [\d.]+ s; nothing was written\n.*a new run would begin\n$/s,
    );
    assert.ok(!existsSync(runDir));
    const { settings } = JSON.parse(
      callInThread('train', 'addition', '--dry-run', '--json', '--backend', 'wasm').stdout,
    ) as {
      settings: { groupSize: number };
    };
    assert.equal(settings.groupSize, 8);
  });

  test('a dry run fails where the guard would skip a step, and where solutions are too long', (t) => {
    const failing = (change: string, message: RegExp) => {
      const { file, runDir } = writeConfig(
        t,
        'faulty.ts',
        `import { defineReward } from 'groupgrad';
        export default { ...${JSON.stringify(tiny)}, ${change} };`,
      );
      const { status, stdout, stderr } = callInThread('train', file, '--run', runDir, '--dry-run');
      assert.equal(status, 1, stdout);
      assert.match(stderr, message);
    };
    failing(`rewards: [defineReward('faulty', () => NaN)]`, /reward 'faulty' .*: expected a finite number, got NaN\n$/);
    failing('warmStart: { steps: 9 }, sampling: { maxTokens: 1 }', /expected solutions of at most 1 tokens/);
  });

  test('a run that learnt nothing gets warnings while it runs, and exits with 1', {
    skip: slowSet('trains several times'),
  }, (t) => {
    const run = (reward: string, ...flags: string[]) => {
      const { file, runDir } = writeConfig(
        t,
        'idle.ts',
        `import { defineReward } from 'groupgrad';
        export default { ...${JSON.stringify({ ...tiny, steps: 14 })}, rewards: [${reward}] };`,
      );
      return { ...groupgrad('train', file, '--run', runDir, ...flags), runDir };
    };
    const equal = `defineReward('same', () => 0.25)`;
    const warning =
      /step 10: none of the last 10 steps had a gradient to learn from: in every group all rewards were equal/;
    const plain = run(equal);
    assert.equal(plain.status, 1, plain.stderr);
    assert.match(plain.stdout, new RegExp(`^warning: ${warning.source}`, 'm'));
    assert.match(plain.stdout, /\ndone after step 14; see .*\n$/);
    assert.match(
      plain.stderr,
      new RegExp(
        `^warning: ${warning.source}.*\ngroupgrad: .*: nothing was learnt: none of its 14 steps changed the weights\n$`,
      ),
    );
    assert.equal(plain.stdout.match(/warning: /g)?.length, 1);
    assert.match(readFileSync(join(plain.runDir, 'report.html'), 'utf8'), warning);

    const json = run(equal, '--json');
    assert.equal(json.status, 1);
    const lines = json.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { warnings?: string[] });
    assert.deepEqual(
      lines.flatMap(({ warnings }, i) => (warnings ? [i] : [])),
      [9, 14],
    );
    assert.match(lines[9].warnings![0], warning);

    // A few steps without a reward may be chance and give a warning; a run whose steps were all skipped is not chance.
    const short = run(equal, '--steps', '3');
    assert.equal(short.status, 0, short.stderr);
    assert.match(short.stderr, /^warning: .*: nothing was learnt: none of its 3 steps changed the weights\n$/);
    const skipped = run(`defineReward('broken', () => NaN)`, '--steps', '3');
    assert.equal(skipped.status, 1);
    assert.match(skipped.stderr, /^groupgrad: .*: nothing was learnt: none of its 3 steps changed the weights\n$/);
    assert.equal(run(`defineReward('length', ({ completion }) => completion.tokens.length)`, '--steps', '3').status, 0);
  });

  test('a failure of the run is reported, its last complete step saved, and the exit code is 1', (t) => {
    const { file, runDir } = writeConfig(
      t,
      'broken.ts',
      `import { defineReward, tasks } from 'groupgrad';
      let calls = 0;
      export default {
        ...${JSON.stringify(tiny)},
        rewards: [defineReward('broken', () => { if (calls++ > 40) throw new Error('out of order'); return calls % 2; })],
      };`,
    );
    const { status, stderr } = groupgrad('train', file, '--run', runDir);
    assert.equal(status, 1);
    assert.match(stderr, /^groupgrad: reward 'broken' .*: out of order\n$/);
    assert.ok(existsSync(join(runDir, 'checkpoints', 'step-00000002', 'manifest.json')));
    assert.ok(!existsSync(join(runDir, 'lock.json')));
  });

  test('an uncaught error ends the run after its step, which is saved, and the exit code is 1', (t) => {
    const { file, runDir } = writeConfig(
      t,
      'stray.ts',
      `import { defineReward } from 'groupgrad';
      let calls = 0;
      export default {
        ...${JSON.stringify({ ...tiny, steps: 400 })},
        rewards: [defineReward('stray', () => { if (calls++ === 20) Promise.reject(new Error('astray')); return calls % 2; })],
      };`,
    );
    const { status, stderr } = groupgrad('train', file, '--run', runDir);
    assert.equal(status, 1);
    assert.match(stderr, /^groupgrad: astray\n$/);
    const made = readLines(join(runDir, 'metrics.jsonl')).length - 1;
    assert.ok(made >= 2 && made < 400, `${made} steps`);
    assert.ok(existsSync(join(runDir, 'checkpoints', `step-${String(made).padStart(8, '0')}`, 'manifest.json')));
  });
});

describe('a signal', () => {
  async function interrupted(t: TestContext, signals: readonly NodeJS.Signals[]) {
    const { file, runDir } = writeConfig(t, 'long.json', JSON.stringify({ ...tiny, steps: 100_000 }));
    const child = spawn(process.execPath, [...program, 'train', file, '--run', runDir, '--json'], { cwd: root });
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    for (const signal of signals) child.kill(signal);
    return { code: await ended, runDir, last: () => JSON.parse(output.trimEnd().split('\n').at(-1)!) };
  }

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    test(`${signal} finishes the step, saves it and exits with ${code}`, async (t) => {
      const ended = await interrupted(t, [signal]);
      assert.equal(ended.code, code);
      const made = readLines(join(ended.runDir, 'metrics.jsonl')).length - 1;
      assert.ok(
        existsSync(join(ended.runDir, 'checkpoints', `step-${String(made).padStart(8, '0')}`, 'manifest.json')),
      );
      assert.ok(!existsSync(join(ended.runDir, 'lock.json')));
      assert.deepEqual(ended.last(), { ended: signal, steps: made, run: ended.runDir, evaluation: {} });
    });
  }

  test('a second one ends the run at once', async (t) => {
    const { code } = await interrupted(t, ['SIGINT', 'SIGTERM']);
    // The system decides which of the two arrives first.
    assert.ok(code === 130 || code === 143, `exit status ${code}`);
  });
});

test('--set changes a copy, along a path of plain objects', () => {
  const config = { loss: { kl: { beta: 1 } }, task: { score: () => 1 }, list: [1] };
  assert.deepEqual(setPath(config, 'loss.kl.beta=0.04'), { ...config, loss: { kl: { beta: 0.04 } } });
  assert.deepEqual(setPath(config, 'new.deep=[1, 2]'), { ...config, new: { deep: [1, 2] } });
  assert.deepEqual(setPath(config, 'loss=grpo=1'), { ...config, loss: 'grpo=1' });
  assert.deepEqual(setPath(config, 'loss='), { ...config, loss: '' });
  const withPolicy = { policy: () => null, steps: 1 };
  assert.deepEqual(setPath(withPolicy, 'steps=2'), { ...withPolicy, steps: 2 });
  assert.equal(config.loss.kl.beta, 1);
  for (const path of ['task.size=3', 'list.0=2', 'loss.kl.beta.x=1']) {
    assert.throws(() => setPath(config, path), { name: 'TypeError', message: /to be an object of settings/ });
  }
  for (const path of ['=3', 'a..b=1', '__proto__.x=1', 'a']) assert.throws(() => setPath(config, path), RangeError);
});
