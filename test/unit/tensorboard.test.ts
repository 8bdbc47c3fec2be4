// TensorBoard event files: their bytes, the remains after a stop, and what TensorBoard's own reader makes of them.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, describe } from 'node:test';
import { crc32c, TensorBoardWriter } from '../../src/run/tensorboard.js';
import { typescript } from '../support/native.js';
import { readEvents } from '../support/tfevents.js';

const root = mkdtempSync(join(tmpdir(), 'groupgrad-tensorboard-'));
after(() => rmSync(root, { recursive: true }));
let folders = 0;
const folder = () => join(root, String(folders++));

test('crc32c gives the known answers of RFC 3720, B.4', () => {
  const upTo32 = Uint8Array.from({ length: 32 }, (_, i) => i);
  const readCommand = new Uint8Array(48);
  readCommand.set([0x01, 0xc0]);
  readCommand[16] = 0x14;
  readCommand[22] = 0x04;
  readCommand[27] = 0x14;
  readCommand[31] = 0x18;
  readCommand[32] = 0x28;
  readCommand[40] = 0x02;
  const known: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(255), 0x62a8ab43],
    [upTo32, 0x46dd794e],
    [upTo32.slice().reverse(), 0x113fdb5c],
    [readCommand, 0xd9963a56],
    [new TextEncoder().encode('123456789'), 0xe3069283],
    [new Uint8Array(0), 0],
  ];
  for (const [data, expected] of known) assert.equal(crc32c(data).toString(16), expected.toString(16));
});

describe('TensorBoardWriter', () => {
  test('writes its version, scalars and texts', () => {
    const writer = TensorBoardWriter.open(folder(), { wallTime: 1700000000.25 });
    writer.scalars(1, { reward: 0.5, 'rewards/näher/mean': -3 }, 1700000001.5);
    writer.scalars(2 ** 40, { kl: Number.NaN, loss: Infinity, huge: 1e300 }, 0);
    writer.scalars(127, {});
    writer.text('sample', 300, 'a|b\n😀', 2);
    writer.flush();
    writer.close();
    const { events, torn } = readEvents(writer.path);
    assert.equal(torn, 0);
    assert.deepEqual(events, [
      { wallTime: 1700000000.25, step: 0, version: 'brain.Event:2', values: {} },
      { wallTime: 1700000001.5, step: 1, values: { reward: 0.5, 'rewards/näher/mean': -3 } },
      { wallTime: 0, step: 2 ** 40, values: { kl: Number.NaN, loss: Infinity, huge: Infinity } },
      { wallTime: 2, step: 300, values: { sample: 'a|b\n😀' } },
    ]);
    assert.match(writer.path, /events\.out\.tfevents\.1700000000\.groupgrad$/);
  });

  test('every record is in the file when its call returns', () => {
    const writer = TensorBoardWriter.open(folder());
    writer.scalars(1, { reward: 1 });
    assert.deepEqual(readEvents(writer.path).events[1].values, { reward: 1 });
    writer.close();
  });

  test('times default to now', () => {
    const before = Date.now() / 1000;
    const writer = TensorBoardWriter.open(folder());
    writer.scalars(1, { reward: 1 });
    writer.close();
    for (const { wallTime } of readEvents(writer.path).events) {
      assert.ok(wallTime >= before && wallTime <= Date.now() / 1000);
    }
  });

  test('lengths that take several bytes are written correctly', () => {
    const writer = TensorBoardWriter.open(folder());
    const content = 'x'.repeat(70000);
    writer.text('long', 1, content);
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`metric/${i}`, i]));
    writer.scalars(1, many);
    writer.close();
    const { events } = readEvents(writer.path);
    assert.equal(events[1].values.long, content);
    assert.deepEqual(events[2].values, many);
  });

  test('a resumed run gets a file that is read after the others and says what to drop, and leaves the incomplete one alone', () => {
    const dir = folder();
    const first = TensorBoardWriter.open(dir, { wallTime: 1700000000 });
    for (let step = 1; step <= 5; step++) first.scalars(step, { reward: step });
    first.close();
    truncateSync(first.path, statSync(first.path).size - 7);
    const torn = readFileSync(first.path);
    // The clock went backwards in the meantime.
    const second = TensorBoardWriter.open(dir, { wallTime: 1600000000, step: 4 });
    second.scalars(4, { reward: 40 });
    second.close();
    assert.deepEqual(
      readdirSync(dir),
      [first.path, second.path].map((path) => path.slice(dir.length + 1)),
    );
    assert.deepEqual(readFileSync(first.path), torn);
    const { events } = readEvents(second.path);
    assert.deepEqual(
      events.map(({ version, session, step }) => ({ version, session, step })),
      [
        { version: 'brain.Event:2', session: undefined, step: 0 },
        { version: undefined, session: 1, step: 4 },
        { version: undefined, session: undefined, step: 4 },
      ],
    );
  });

  test('two files opened in the same second are different files', () => {
    const dir = folder();
    const writers = [1, 2, 3].map(() => TensorBoardWriter.open(dir, { wallTime: 5 }));
    for (const writer of writers) writer.close();
    assert.equal(new Set(writers.map(({ path }) => path)).size, 3);
  });

  test('a failed write throws and leaves complete records, and the next one continues after them', {
    skip: process.platform === 'win32' && 'limits the size of files by ulimit',
  }, () => {
    const dir = folder();
    const script = `
      import { appendFileSync } from 'node:fs';
      import { TensorBoardWriter } from ${JSON.stringify(new URL('../../src/run/tensorboard.ts', import.meta.url).href)};
      const writer = TensorBoardWriter.open(${JSON.stringify(dir)});
      writer.scalars(1, { reward: 1 });
      let refused = 0;
      try { writer.text('long', 2, 'x'.repeat(100000)); } catch (error) { refused = error.code; }
      writer.scalars(3, { reward: 3 });
      writer.close();
      console.log(refused, writer.path);`;
    const program = join(root, 'full.mjs');
    writeFileSync(program, script);
    // Files may have 16 or 32 KiB, by the shell's unit; the signal that says so is ignored, so that the write fails instead.
    const command = `trap '' XFSZ; ulimit -f 32; exec "$@"`;
    const args = ['-c', command, 'sh', process.execPath, ...typescript, program];
    const { stdout, stderr } = spawnSync('sh', args, { encoding: 'utf8' });
    const [refused, path] = stdout.trim().split(' ');
    assert.equal(refused, 'EFBIG', stderr);
    const { events, torn } = readEvents(path);
    assert.equal(torn, 0);
    assert.deepEqual(
      events.slice(1).map(({ values }) => values),
      [{ reward: 1 }, { reward: 3 }],
    );
  });

  test('invalid values are rejected by name and not written', () => {
    const writer = TensorBoardWriter.open(folder());
    const size = statSync(writer.path).size;
    const cases: [() => unknown, RegExp][] = [
      [() => writer.scalars(-1, { reward: 1 }), /^RangeError: step/],
      [() => writer.scalars(0.5, { reward: 1 }), /^RangeError: step/],
      [() => writer.scalars(1, { reward: '1' as never }), /^TypeError: values\.reward: .*got "1"/],
      [() => writer.scalars(1, { reward: null as never }), /^TypeError: values\.reward/],
      [() => writer.scalars(1, null as never), /^TypeError: values/],
      [() => writer.scalars(1, { reward: 1 }, Date.now()), /^RangeError: wallTime/],
      [() => writer.text('a', 1, 2 as never), /^TypeError: content/],
      [() => writer.text(1 as never, 1, 'b'), /^TypeError: tag/],
      [() => TensorBoardWriter.open(folder(), { step: -1 }), /^RangeError: options\.step/],
      [() => TensorBoardWriter.open(folder(), { wallTime: Number.NaN }), /^RangeError: options\.wallTime/],
      [() => TensorBoardWriter.open(folder(), { steps: 1 } as never), /^TypeError: options\.steps: unknown/],
      [() => TensorBoardWriter.open(1 as never), /^TypeError: dir/],
    ];
    for (const [call, message] of cases) {
      assert.throws(call, (error) => message.test(String(error)) || assert.fail(`${message} does not match ${error}`));
    }
    assert.equal(statSync(writer.path).size, size);
    writer.close();
    writer.close();
    assert.throws(() => writer.scalars(1, { reward: 1 }), /closed/);
    assert.throws(() => writer.flush(), /closed/);
  });
});

/** A Python with TensorBoard's package: `GROUPGRAD_TENSORBOARD_PYTHON`, or the one on the path. */
const python = process.env.GROUPGRAD_TENSORBOARD_PYTHON ?? 'python3';
const hasTensorBoard = spawnSync(python, ['-c', 'import tensorboard']).status === 0;

const program = `
import json, sys
from tensorboard.backend.event_processing import event_accumulator, plugin_event_multiplexer
old = event_accumulator.EventAccumulator(sys.argv[1]).Reload()
scalars = {tag: [[e.step, e.wall_time, e.value] for e in old.Scalars(tag)] for tag in old.Tags()['scalars']}
new = plugin_event_multiplexer.EventMultiplexer().AddRun(sys.argv[1], 'run').Reload()
tensors = {tag: [[e.step, str(e.tensor_proto.string_val[0], 'utf-8') if e.tensor_proto.string_val else e.tensor_proto.float_val[0]]
                 for e in new.Tensors('run', tag)] for tag in new.GetAccumulator('run').Tags()['tensors']}
plugins = {tag: new.SummaryMetadata('run', tag).plugin_data.plugin_name for tag in tensors}
print(json.dumps({'scalars': scalars, 'tensors': tensors, 'plugins': plugins}))
`;

describe('TensorBoard reads', { skip: !hasTensorBoard && `${python} has no package tensorboard` }, () => {
  interface Read {
    scalars: Record<string, [number, number, number][]>;
    tensors: Record<string, [number, number | string][]>;
    plugins: Record<string, string>;
  }
  const read = (dir: string): Read => {
    const { stdout, stderr, status } = spawnSync(python, ['-c', program, dir], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout.trim().split('\n').at(-1)!);
  };

  test('the values, steps and times', () => {
    const dir = folder();
    const writer = TensorBoardWriter.open(dir, { wallTime: 100 });
    writer.scalars(1, { reward: 0.25, 'clip_ratio/low_mean': 1 }, 101.5);
    writer.scalars(2, { reward: 0.5 }, 102.5);
    writer.text('sample', 2, 'è **2**', 103);
    writer.close();
    const { scalars, tensors, plugins } = read(dir);
    assert.deepEqual(scalars.reward, [
      [1, 101.5, 0.25],
      [2, 102.5, 0.5],
    ]);
    assert.deepEqual(scalars['clip_ratio/low_mean'], [[1, 101.5, 1]]);
    assert.deepEqual(tensors.sample, [[2, 'è **2**']]);
    assert.deepEqual(plugins, { reward: 'scalars', 'clip_ratio/low_mean': 'scalars', sample: 'text' });
  });

  test('an incomplete file and the one after it as one run without the undone steps', () => {
    const dir = folder();
    const first = TensorBoardWriter.open(dir, { wallTime: 100 });
    for (let step = 1; step <= 6; step++) first.scalars(step, { reward: step, only_before: step }, 100 + step);
    first.close();
    truncateSync(first.path, statSync(first.path).size - 5);
    const second = TensorBoardWriter.open(dir, { wallTime: 200, step: 4 });
    second.scalars(4, { reward: 40 }, 204);
    second.close();
    const third = TensorBoardWriter.open(dir, { wallTime: 150, step: 5 });
    third.scalars(5, { reward: 50 }, 205);
    third.close();
    const { scalars } = read(dir);
    assert.deepEqual(
      scalars.reward.map(([step, , value]) => [step, value]),
      [
        [1, 1],
        [2, 2],
        [3, 3],
        [4, 40],
        [5, 50],
      ],
    );
    assert.deepEqual(
      scalars.only_before.map(([step]) => step),
      [1, 2, 3],
    );
  });
});
