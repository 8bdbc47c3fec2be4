// The scripts for a machine with a GPU, tested without one: bench/gpu with the emulated device, and with stand-ins for
// programs that only such a machine has.

import assert from 'node:assert/strict';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { describe } from 'node:test';
import { buildEmulatedAddon, cannotBuild, exists, outputOf, root, run, withFolder } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const python = process.env.GROUPGRAD_PYTHON ?? 'python3';
const noBash = !exists('bash') && 'bash was not found';
const noBuild = noBash || slowSet('compiles the emulated device') || cannotBuild();
const noTorch =
  noBuild ||
  (run(python, ['-c', 'import torch']).status !== 0 && `${python} has no PyTorch (GROUPGRAD_PYTHON names another)`);

/** Writes a stand-in for a program, and returns a PATH on which it comes first. */
function standIn(folder: string, name: string, script: string): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, name);
  writeFileSync(file, `#!/usr/bin/env bash\n${script}\n`);
  chmodSync(file, 0o755);
  return `${folder}:${process.env.PATH}`;
}

const steps = (script: string, env: NodeJS.ProcessEnv = process.env) =>
  run('bash', ['-c', `source bench/gpu/steps.sh; ${script}`], { env });

describe('steps on a machine with a GPU', { skip: noBash }, () => {
  test('a step that hangs is ended within its limit, together with the processes that it started', () => {
    const begin = Date.now();
    assert.equal(steps(`limited 1 bash -c 'sleep 60 & wait'`).status, 124);
    assert.ok(Date.now() - begin < 20_000);
  });

  for (const [what, script, status, said] of [
    ['finds nothing', 'exit 0', 0, /^racecheck: /],
    // With all kernels except those with bulk copies, and with only those.
    ['reports hazards', 'exit 86', 1, /for information/],
    [
      'reports hazards of bulk copies alone',
      '[[ $* == *--kernel-name-exclude* ]] && exit 0; exit 86',
      0,
      /for information/,
    ],
    ['does not run', 'echo Error: Device not supported; exit 1', 2, /does not work here: Error: Device not supported/],
  ] as const) {
    test(`racecheck ${what}: status ${status}`, () => {
      withFolder((folder) => {
        const PATH = standIn(folder, 'compute-sanitizer', script);
        const result = steps(`race_check 5 program 4 ${folder}/log`, { ...process.env, PATH });
        assert.equal(result.status, status, outputOf(result));
        assert.match(result.stdout, said);
      });
    });
  }

  test('an unknown option or stage: status 2, and the list of known ones', () => {
    for (const script of ['run.sh', 'pack.sh', 'session.sh']) {
      const result = run('bash', [join('bench', 'gpu', script), '--colour']);
      assert.equal(result.status, 2, outputOf(result));
      assert.match(result.stderr, /--colour: expected /);
      assert.match(run('bash', [join('bench', 'gpu', script), '--help']).stdout, /bench\/gpu\//);
    }
  });
});

test('run.sh accepts an addon that was built elsewhere, with Node only', { skip: noBuild }, () => {
  const addon = buildEmulatedAddon();
  withFolder((folder) => {
    // A Python that claims there is a GPU, and leaves the programs of bench/gpu to their own tests.
    const fake = standIn(folder, 'python', `[[ $1 == -c ]] && echo 90; [[ $1 != -c ]] && echo "ran $*"; exit 0`);
    const PATH = standIn(folder, 'npm', `touch ${folder}/npm-was-called; exit 1`);
    assert.equal(fake, PATH);
    standIn(folder, 'npx', `touch ${folder}/npm-was-called; exit 1`);
    standIn(folder, 'compute-sanitizer', 'echo Error: Device not supported; exit 1');
    standIn(folder, 'nvcc', 'exit 0');
    const env = { ...process.env, PATH, PYTHON: join(folder, 'python'), DRY: '1' };
    delete (env as NodeJS.ProcessEnv).NODE_TEST_CONTEXT; // otherwise the tests report to this runner
    const result = run('bash', ['bench/gpu/run.sh', '--addon', addon], { env });
    const output = outputOf(result);
    assert.match(output, new RegExp(`not built: .*libgroupgrad.so, ${addon}`));
    assert.match(output, /ran bench\/gpu\/check\.py --library .*libgroupgrad\.so/);
    assert.ok(Number(/^# pass (\d+)/m.exec(output)?.[1]) > 0, output);
    assert.doesNotMatch(output, /FAILED: tests of the addon/);
    assert.ok(!existsSync(join(folder, 'npm-was-called')));
  });
});

test("pack.sh packs everything that session.sh runs, without this machine's Node", { skip: noTorch }, (t) => {
  const addon = buildEmulatedAddon();
  withFolder((folder) => {
    const peer = join(folder, 'checkout', 'src', 'liger_kernel');
    mkdirSync(peer, { recursive: true });
    writeFileSync(join(peer, '__init__.py'), 'raise ImportError("a stand-in")\n');
    const pack = join(folder, 'pack');
    const packed = run('bash', [
      'bench/gpu/pack.sh',
      '--addon',
      addon,
      '--liger',
      join(folder, 'checkout'),
      '--out',
      pack,
    ]);
    assert.equal(packed.status, 0, outputOf(packed));
    t.diagnostic(packed.stdout.trim().split('\n').at(-1)!.trim());

    // The working tree as it is packed: without files that git ignores.
    const tree = join(folder, 'tree');
    for (const name of ['bench', 'native', 'src', 'test', 'package.json', 'tsconfig.json', 'tsconfig.build.json'])
      cpSync(join(root, name), join(tree, name), { recursive: true });
    const out = join(folder, 'out');
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      PATH: standIn(join(folder, 'bin'), 'node', 'echo "not this one" >&2; exit 1'),
      DRY: '1',
      PACK: pack,
      OUT: out,
      PYTHON: python,
      TMPDIR: folder,
    };
    delete env.NODE_TEST_CONTEXT;
    const stages = ['setup', 'memcheck', 'tests', 'quick', 'ncu'];
    const result = run('bash', [join(tree, 'bench', 'gpu', 'session.sh'), ...stages], { cwd: folder, env });
    const output = outputOf(result);
    assert.equal(result.status, 0, output);
    for (const stage of ['setup', 'tests', 'quick']) assert.match(output, new RegExp(`^${stage}: status 0`, 'm'));
    for (const stage of ['memcheck', 'ncu'])
      assert.match(output, new RegExp(`^${stage}: left out, it needs a GPU`, 'm'));
    assert.match(output, /^liger_kernel unknown$/m);
    assert.ok(Number(/^# pass (\d+)/m.exec(output)?.[1]) > 0, output);
    const { machine, rows, skipped } = JSON.parse(readFileSync(join(out, 'quick.json'), 'utf8'));
    assert.equal(machine.commit, readFileSync(join(pack, 'commit'), 'utf8').trim());
    assert.ok(rows.some(({ role }: { role: string }) => role === 'addon'));
    assert.ok(skipped.some(({ reason }: { reason: string }) => reason === 'absent: ImportError: a stand-in'));
    assert.ok(existsSync(join(out, 'session.log')));
  });
});
