// Checkpoints: whenever writing stops, the previous checkpoint still exists and is found.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import {
  type CheckpointFiles,
  type Disk,
  disk,
  expired,
  listCheckpoints,
  newestCheckpoint,
  readCheckpoint,
  tidyCheckpoints,
  writeCheckpoint,
} from '../../src/run/checkpoint.js';
import { SafetensorsFile } from '../../src/weights/safetensors-file.js';
import { fileTensors, safetensorsPieces } from '../../src/weights/tensor-source.js';
import { temporaryFolder } from '../support/trainer.js';

function filesOf(step: number): CheckpointFiles {
  return {
    'weights.bin': [Buffer.alloc(60, step), Buffer.alloc(40, step)],
    'state.json': [Buffer.from(JSON.stringify({ step }))],
  };
}

/** The checkpoint's files have the contents of `filesOf` its step. */
function assertHolds(folder: string, step: number): void {
  for (const [name, pieces] of Object.entries(filesOf(step))) {
    assert.deepEqual(fs.readFileSync(join(folder, name)), Buffer.concat([...pieces]), name);
  }
}

/** A disk whose operation number `count` (from 0) writes only a part and fails, as do all later ones. */
function failingDisk(count: number, reason: string): Disk {
  let left = count;
  const failing = <A extends unknown[]>(operation: (...args: A) => void, torn: (...args: A) => void = () => {}) =>
    ((...args: A) => {
      if (left-- > 0) return operation(...args);
      if (left === -1) torn(...args);
      throw Object.assign(new Error(reason), { code: reason });
    }) as (...args: A) => void;
  return {
    mkdir: failing(disk.mkdir),
    write: failing(disk.write, (path, pieces) => {
      const bytes = Buffer.concat([...pieces]);
      fs.writeFileSync(path, bytes.subarray(0, bytes.length / 2));
    }),
    rename: failing(disk.rename),
    syncFolder: failing(disk.syncFolder),
    remove: failing(disk.remove),
  };
}

test('a checkpoint is read back as it was written', (t) => {
  const parent = join(temporaryFolder(t), 'checkpoints');
  const folder = writeCheckpoint(parent, 7, filesOf(7));
  assert.equal(folder, join(parent, 'step-00000007'));
  assert.deepEqual(readCheckpoint(folder), { step: 7, files: Object.keys(filesOf(7)) });
  assertHolds(folder, 7);
  assert.deepEqual(fs.readdirSync(parent), ['step-00000007']);
});

test('wherever a write fails, the previous checkpoint is found, and the remains are removed', (t) => {
  const parent = join(temporaryFolder(t), 'checkpoints');
  writeCheckpoint(parent, 1, filesOf(1));
  let operations = 0;
  for (; ; operations++) {
    try {
      writeCheckpoint(parent, 2, filesOf(2), failingDisk(operations, 'ENOSPC'));
      break;
    } catch (error) {
      assert.match((error as Error).message, /step 2 could not be saved to .*step-00000002: ENOSPC/);
    }
    const { found, broken } = newestCheckpoint(parent);
    // The last operation syncs the name of a checkpoint that already exists.
    assert.ok(found?.step === 1 || (found?.step === 2 && operations === 7), `after ${operations}: step ${found?.step}`);
    assertHolds(found.folder, found.step);
    assert.deepEqual(broken, []);
    tidyCheckpoints(parent);
    assert.deepEqual(
      fs.readdirSync(parent).filter((name) => !name.startsWith('step-')),
      [],
    );
    fs.rmSync(join(parent, 'step-00000002'), { recursive: true, force: true });
  }
  // Remove, mkdir, two files, the manifest, a sync, a rename, a sync.
  assert.equal(operations, 8);
  assert.equal(newestCheckpoint(parent).found?.step, 2);
});

test('a checkpoint whose name could not be synced is removed, because its step is undone', (t) => {
  const parent = join(temporaryFolder(t), 'checkpoints');
  writeCheckpoint(parent, 1, filesOf(1));
  const on = failingDisk(Infinity, '');
  on.syncFolder = (path) => {
    if (path === parent) throw new Error('EIO');
  };
  assert.throws(() => writeCheckpoint(parent, 2, filesOf(2), on), /step 2 could not be saved .*: EIO/);
  assert.equal(newestCheckpoint(parent).found?.step, 1);
});

test('a checkpoint that reads back differently from what was written does not get its name', (t) => {
  const parent = join(temporaryFolder(t), 'checkpoints');
  const on = failingDisk(Infinity, '');
  on.write = (path, pieces) =>
    disk.write(path, path.endsWith('weights.bin') ? [Buffer.concat([...pieces]).toReversed()] : pieces);
  const files = { ...filesOf(1), 'weights.bin': [Uint8Array.of(1, 2)] };
  assert.throws(() => writeCheckpoint(parent, 1, files, on), /step 1 could not be saved .*: weights\.bin: its SHA-256/);
  assert.deepEqual(fs.readdirSync(parent), []);
});

test('the name of a new folder for checkpoints is synced to the disk', (t) => {
  const run = temporaryFolder(t);
  const synced: string[] = [];
  const on = { ...disk, syncFolder: (path: string) => void synced.push(path) };
  const parent = join(run, 'checkpoints');
  writeCheckpoint(parent, 1, filesOf(1), on);
  assert.equal(synced[0], run);
  assert.equal(synced.at(-1), parent);
});

for (const [what, harm] of Object.entries({
  'a file cut short': (folder: string) => fs.truncateSync(join(folder, 'weights.bin'), 99),
  'a file with a flipped bit': (folder: string) => {
    const bytes = fs.readFileSync(join(folder, 'weights.bin'));
    bytes[50] ^= 1;
    fs.writeFileSync(join(folder, 'weights.bin'), bytes);
  },
  'a missing file': (folder: string) => fs.rmSync(join(folder, 'state.json')),
  'a missing manifest': (folder: string) => fs.rmSync(join(folder, 'manifest.json')),
  'a manifest cut short': (folder: string) => fs.truncateSync(join(folder, 'manifest.json'), 40),
  'an empty manifest': (folder: string) => fs.truncateSync(join(folder, 'manifest.json'), 0),
  'a manifest of another format': (folder: string) => fs.writeFileSync(join(folder, 'manifest.json'), '{"format":2}'),
  'a manifest of another step': (folder: string) => {
    const path = join(folder, 'manifest.json');
    fs.writeFileSync(path, fs.readFileSync(path, 'utf8').replace('"step": 3', '"step": 2'));
  },
})) {
  test(`${what}: the next older checkpoint is used, and the reason reported`, (t) => {
    const parent = temporaryFolder(t);
    for (const step of [1, 2, 3]) writeCheckpoint(parent, step, filesOf(step));
    harm(join(parent, 'step-00000003'));
    const { found, broken } = newestCheckpoint(parent);
    assert.equal(found?.step, 2);
    assert.equal(broken.length, 1);
    assert.match(broken[0].reason, /^(weights\.bin|state\.json|manifest\.json): /);
  });
}

test('a checkpoint can replace a broken one of the same step', (t) => {
  const parent = temporaryFolder(t);
  fs.truncateSync(join(writeCheckpoint(parent, 3, filesOf(1)), 'weights.bin'), 0);
  writeCheckpoint(parent, 3, filesOf(3));
  assert.deepEqual(newestCheckpoint(parent), {
    found: { folder: join(parent, 'step-00000003'), step: 3, files: Object.keys(filesOf(3)) },
    broken: [],
  });
});

test('folders with other names are not checkpoints', (t) => {
  const parent = temporaryFolder(t);
  for (const name of ['step-1', 'step-00000001.old', 'latest', '.new-step-00000004']) fs.mkdirSync(join(parent, name));
  assert.deepEqual(listCheckpoints(parent), []);
  assert.deepEqual(listCheckpoints(join(parent, 'nowhere')), []);
});

test('the newest, every n-th and the best are kept', () => {
  const checkpoints = [100, 90, 80, 70, 60, 50].map((step) => ({ folder: '', step }));
  const removed = (options: Partial<Parameters<typeof expired>[1]>) =>
    expired(checkpoints, { keepLast: 2, keepEvery: null, best: undefined, ...options }).map(({ step }) => step);
  assert.deepEqual(removed({}), [80, 70, 60, 50]);
  assert.deepEqual(removed({ keepLast: 0 }), [90, 80, 70, 60, 50]);
  assert.deepEqual(removed({ keepEvery: 50 }), [80, 70, 60]);
  assert.deepEqual(removed({ best: 70 }), [80, 60, 50]);
});

test('tensors are read from a file one by one, as they were written', (t) => {
  const arrays: Record<string, { shape: number[]; values: Float32Array }> = {
    matrix: { shape: [2, 3], values: Float32Array.of(1, -2.5, 3e-40, Infinity, -0, 1e38) },
    'layers.0.gain': { shape: [1], values: new Float32Array(Float32Array.of(9, 7).buffer, 4) },
    scalar: { shape: [], values: Float32Array.of(0.1) },
    none: { shape: [0, 4], values: new Float32Array(0) },
  };
  const shapes = Object.fromEntries(Object.entries(arrays).map(([name, { shape }]) => [name, shape]));
  const path = join(temporaryFolder(t), 'tensors.safetensors');
  disk.write(path, safetensorsPieces({ shapes, read: (name) => arrays[name].values }, { metadata: { step: '3' } }));
  const source = fileTensors(path);
  assert.deepEqual(source.shapes, shapes);
  for (const [name, { values }] of Object.entries(arrays)) assert.deepEqual(source.read(name), values);
  using file = new SafetensorsFile(path);
  assert.equal(file.metadata.get('step'), '3');
});
