// The GPU benchmark without a GPU: its programs over a libgroupgrad whose kernels run on the processor.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { before, describe } from 'node:test';
import { buildEmulatedAddon, cannotBuild, outputOf, root, run, withFolder } from '../support/native.js';

const slow = Boolean(process.env.CI || process.env.GROUPGRAD_SLOW_TESTS);
const python = process.env.GROUPGRAD_PYTHON ?? 'python3';
const noBuild = slow ? cannotBuild() : 'takes a minute: set GROUPGRAD_SLOW_TESTS=1';
const hasTorch = !noBuild && run(python, ['-c', 'import torch']).status === 0;
const noTorch = noBuild || (!hasTorch && `${python} has no PyTorch (GROUPGRAD_PYTHON names another)`);

const program = (name: string) => join(root, 'bench', 'gpu', name);

function succeeds(command: string, args: readonly string[], env = process.env): string {
  const result = run(command, args, { env });
  assert.equal(result.status, 0, outputOf(result));
  return result.stdout;
}

interface Results {
  rows: { operation: string; size: string; contender: string; role: string; medianMs: number; error: number | null }[];
  skipped: { contender: string; reason: string }[];
}

describe('the GPU benchmark', { skip: noBuild }, () => {
  let addon = '';
  let library = '';
  before(() => {
    addon = buildEmulatedAddon();
    library = join(dirname(addon), 'libgroupgrad.so');
  });

  test('the requests for compute-sanitizer give masked tokens no gradient, and the same bits twice', (t) => {
    const compiler = process.env.CXX ?? 'c++';
    const folders = ['-I', join(root, 'test', 'native', 'simt'), '-I', join(root, 'native', 'c')];
    const sources = [program('sanitize.cpp'), join(root, 'native', 'c', 'groupgrad.cpp')];
    const flags = ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas'];
    withFolder((folder) => {
      const output = join(folder, 'sanitize');
      const own = [
        '-DGROUPGRAD_VERSION="test"',
        ...sources,
        join(dirname(addon), '..', 'libgroupgrad_cuda.a'),
        '-o',
        output,
      ];
      succeeds(compiler, [...flags, ...folders, ...own]);
      t.diagnostic(succeeds(output, ['40']).trim());
    });
  });

  test('through ctypes, on PyTorch tensors, gradients and losses are those of float64', { skip: noTorch }, (t) => {
    t.diagnostic(succeeds(python, [program('check.py'), '--emulated', '--library', library]).trim());
  });

  test('another loss than the one that was asked for does not pass the check', { skip: noTorch }, () => {
    const spoilt = `
import sys
sys.path.insert(0, ${JSON.stringify(join(root, 'bench', 'gpu'))})
import check, groupgrad
honest = groupgrad._set_config
def spoil(config, loss):
    honest(config, loss)
    config.surrogate_parameters[1] += 0.002
groupgrad._set_config = spoil
check.VOCABULARIES, check.POLICY_SHAPES = (7,), ()
check.main()`;
    const result = run(python, ['-c', spoilt, '--emulated', '--library', library]);
    assert.equal(result.status, 1, outputOf(result));
    assert.match(result.stderr, /WRONG: loss, N = 12, V = 7, float32, token ratio: error/);
  });

  test('bench.py measures every case and says what it left out', { skip: noTorch }, () => {
    withFolder((folder) => {
      const out = join(folder, 'results.json');
      const built = existsSync(join(root, 'dist', 'index.js'));
      const options = ['--emulated', '--no-compile', ...(built ? ['--addon'] : []), '--library', library, '--out', out];
      const env = { ...process.env, GROUPGRAD_ADDON: addon };
      const printed = succeeds(python, [program('bench.py'), ...options], env);
      const { rows, skipped } = JSON.parse(readFileSync(out, 'utf8')) as Results;
      const sizes = new Set(rows.map(({ operation, size }) => `${operation}, ${size}`));
      assert.equal(sizes.size, 6);
      for (const size of sizes) {
        assert.ok(printed.includes(`### ${size}\n`), size);
        const own = rows.filter((row) => `${row.operation}, ${row.size}` === size);
        for (const role of ['copy', 'groupgrad', 'peer'])
          assert.ok(
            own.some((row) => row.role === role),
            `${size}: ${role}`,
          );
      }
      for (const { contender, role, medianMs, error } of rows) {
        assert.ok(medianMs > 0, contender);
        // bfloat16 log-probs, as PyTorch has them, are the worst.
        if (role !== 'copy' && role !== 'addon') assert.ok(error !== null && error < 0.05, `${contender}: ${error}`);
      }
      assert.equal(rows.filter(({ role }) => role === 'addon').length, built ? 4 : 0);
      assert.ok(skipped.some(({ contender, reason }) => contender === 'torch.compile' && /compiles/.test(reason)));
    });
  });
});
