// The built-in configurations of `groupgrad train`: there is one for every task, and each learns. The tests use shortened
// versions: one in every run, three more in the slow set, and in the training set those whose warm start alone takes minutes.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import test, { describe } from 'node:test';
import { builtins } from '../../src/config/builtins.js';
import { resolveConfig } from '../../src/config/load.js';
import { tasks } from '../../src/index.js';
import type { TrainerOptions } from '../../src/train/api.js';
import { resolveParts, resolveSettings } from '../../src/train/options.js';
import { assertLearns } from '../support/learning.js';
import { root } from '../support/native.js';
import { runProgram } from '../support/run-program.js';
import { slowSet, trainingSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

/** Steps of reinforcement after which the accuracy has risen; in the slow and training sets, after a warm start. */
const short: Record<string, { steps: number; set?: typeof slowSet }> = {
  addition: { steps: 80, set: trainingSet },
  bandit: { steps: 30 },
  chain: { steps: 40, set: trainingSet },
  copy: { steps: 40, set: slowSet },
  countdown: { steps: 40, set: trainingSet },
  multiplication: { steps: 40, set: trainingSet },
  reverse: { steps: 40, set: slowSet },
  sort: { steps: 40, set: slowSet },
  subtraction: { steps: 40, set: trainingSet },
  sudoku: { steps: 40, set: trainingSet },
};

test('there is one for every task except files, in plain JSON, with held-out problems and a schedule as long as the run', () => {
  const { jsonl: _, ...generated } = tasks;
  assert.deepEqual(Object.keys(builtins).sort(), Object.keys(generated).sort());
  assert.deepEqual(Object.keys(short).sort(), Object.keys(builtins).sort());
  for (const [name, config] of Object.entries(builtins)) {
    assert.deepEqual(JSON.parse(JSON.stringify(config)), config);
    assert.equal((config.train as { task: string }).task, name);
    const options = resolveConfig(config) as TrainerOptions;
    const { iterations, miniBatches, optimizer } = resolveSettings(options);
    const { train, evaluate } = resolveParts(options);
    const [evaluation] = Object.values(evaluate);
    assert.equal(evaluation.name, train.name);
    assert.ok(evaluation.size! <= 500);
    if (optimizer.totalSteps !== null) assert.equal(optimizer.totalSteps, config.steps! * iterations * miniBatches);
    // A bandit has no other prompts to evaluate on.
    if (name === 'bandit') continue;
    assert.equal((Object.values(config.evaluate!)[0] as { split?: string }).split, 'held-out');
    assert.ok(config.warmStart, `${name}: a policy with random weights is never right`);
  }
});

describe('groupgrad train', () => {
  for (const [name, { steps, set }] of Object.entries(short)) {
    test(name, { skip: set?.('its warm start takes long') ?? false }, (t) => {
      const runDir = join(temporaryFolder(t), name);
      const evaluation = '{"atStart": false, "every": 1000, "size": 8}';
      const flags = ['--run', runDir, '--steps', String(steps), '--set', `evaluation=${evaluation}`];
      const program = [join(root, 'dist', 'cli', 'main.js'), 'train', name, ...flags];
      const { status, output } = runProgram(process.execPath, program, { cwd: root });
      assert.equal(status, 0, output);
      assert.doesNotMatch(output, /warning: |the warm start ended/);
      const { before, after } = assertLearns(runDir);
      t.diagnostic(`accuracy ${before.toFixed(3)} to ${after.toFixed(3)} in ${steps} steps`);
    });
  }
});
