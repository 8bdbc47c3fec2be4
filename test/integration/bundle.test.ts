// The package inside a bundle: esbuild's two formats, on the addon if a project has it installed, on the reference device
// if the bundle is alone; the external packages that docs/bundling.md names; and require() in a CommonJS program.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before, describe } from 'node:test';
import { build } from 'esbuild';
import packageJson from '../../package.json' with { type: 'json' };
import { packageVersion } from '../../src/base/version.js';
import { loadAddon } from '../../src/devices/load.js';
import { installedProject, type Project, root } from '../support/installed.js';
import { runProgram } from '../support/run-program.js';
import { snippetsOf } from '../support/snippets.js';

const noAddon = loadAddon().addon === null && 'no addon has been built here';

const programs = {
  loss: `
    import { devices, policyLoss, presets } from 'groupgrad';
    const input = { shape: { sequences: 2, length: 1 }, logProbs: new Float32Array(2), advantages: Float32Array.of(1, -1) };
    const { loss, gradLogProbs } = policyLoss(input, presets.grpo);
    const { available, detail } = devices().find(({ name }) => name === 'cpu');
    console.log(JSON.stringify({ loss, gradient: [...gradLogProbs], available, detail }));`,
  tfjs: `
    import '@tensorflow/tfjs-backend-wasm';
    import * as tf from '@tensorflow/tfjs-core';
    import { presets } from 'groupgrad';
    import { grpoLoss } from 'groupgrad/tfjs';
    tf.setBackend('wasm').then(() => {
      const batch = { tokens: Int32Array.of(0, 1), advantages: Float32Array.of(0.5, -0.5) };
      const f = (w) => grpoLoss(tf.matMul(w, tf.eye(2)).reshape([2, 1, 2]), batch, presets.grpo);
      console.log(JSON.stringify([...tf.grad(f)(tf.zeros([2, 2])).dataSync()]));
    });`,
  training: `
    import { GrpoTrainer, presets, tasks, TransformerPolicy } from 'groupgrad';
    async function main() {
      const train = tasks.copy({ length: 1, seed: 1 });
      const policy = TransformerPolicy.create({ layers: 1, width: 16, heads: 2, vocabulary: train.characters });
      const trainer = await GrpoTrainer.create({ policy, train, loss: presets.grpo, promptsPerStep: 2, groupSize: 2 });
      const steps = [];
      for await (const { index } of trainer.steps({ max: 2 })) steps.push(index);
      trainer.dispose();
      console.log(JSON.stringify(steps));
    }
    main();`,
  verify: `
    import { verify } from 'groupgrad';
    verify.maths('so it is \\\\boxed{x + 1}', '1 + x').then(({ correct }) => console.log(JSON.stringify([correct])));`,
};
const expected = {
  loss: { loss: 0, gradient: [-0.5, 0.5] },
  tfjs: [-0.125, 0.125, -0.125, 0.125],
  training: [1, 2],
  verify: [true],
};

/** The last line, after the messages about unavailable devices. */
function answer({ status, stdout, output }: ReturnType<typeof runProgram>): unknown {
  assert.equal(status, 0, output);
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}

test('a bundle knows its version', () => assert.equal(packageVersion(), packageJson.version));

describe('in a project', () => {
  let project: Project;
  before(() => {
    // The third is a dependency of the second.
    const peers = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-backend-cpu'];
    project = installedProject(peers);
  });
  after(() => project.remove());

  /** The externals of the command line as listed in docs/bundling.md. */
  function documentedExternals(): string[] {
    const lines = snippetsOf('docs/bundling.md').flatMap(({ code }) => code.split('\n'));
    const [command] = lines.filter((line) => line.includes('esbuild '));
    assert.ok(command, 'docs/bundling.md shows no esbuild command');
    return [...command.matchAll(/--external:(\S+?)(?=['"\s]|$)/g)].map(([, name]) => name);
  }

  for (const format of ['esm', 'cjs'] as const) {
    for (const name of ['loss', 'tfjs', 'training', 'verify'] as const) {
      test(`a bundle in ${format} runs: ${name}`, async () => {
        const entry = project.write(`${name}.mjs`, programs[name]);
        const outfile = join(project.folder, 'out', `${name}.${format === 'esm' ? 'mjs' : 'cjs'}`);
        const external = documentedExternals();
        const { errors } = await build({
          entryPoints: [entry],
          bundle: true,
          platform: 'node',
          format,
          outfile,
          external,
          logLevel: 'silent',
        });
        assert.deepEqual(errors, []);
        const result = answer(project.node(outfile));
        if (name !== 'loss') return assert.deepEqual(result, expected[name]);
        const { available, detail, ...loss } = result as Record<string, unknown>;
        assert.deepEqual(loss, expected.loss);
        if (!noAddon) assert.ok(available, String(detail));
      });
    }

    test(`a bundle in ${format} without a package computes on the reference device and says why`, async () => {
      const entry = project.write('loss.mjs', programs.loss);
      const alone = mkdtempSync(join(tmpdir(), 'groupgrad-bundle-'));
      try {
        const outfile = join(alone, format === 'esm' ? 'loss.mjs' : 'loss.cjs');
        await build({ entryPoints: [entry], bundle: true, platform: 'node', format, outfile, logLevel: 'silent' });
        const finished = runProgram(process.execPath, [outfile], { cwd: alone });
        const { available, detail, ...loss } = answer(finished) as Record<string, unknown>;
        assert.deepEqual(loss, expected.loss);
        assert.equal(available, false);
        assert.match(String(detail), /To have it in a bundle, mark groupgrad as external/);
      } finally {
        rmSync(alone, { recursive: true, force: true });
      }
    });
  }

  // Node 20.19, 22.12 and newer load ES modules by require().
  const requires = (process.features as { require_module?: boolean }).require_module === true;
  test('a CommonJS program can require the package', {
    skip: !requires && 'this Node cannot require ES modules',
  }, () => {
    const program = programs.loss.replace(/import (\{.*\}) from ('groupgrad')/, 'const $1 = require($2)');
    const {
      available: _,
      detail: __,
      ...loss
    } = answer(project.node('--input-type=commonjs', '--eval', program)) as Record<string, unknown>;
    assert.deepEqual(loss, expected.loss);
  });
});

test("the tests use the checkout's addon", { skip: noAddon }, () => {
  const loaded = loadAddon();
  assert.ok(loaded.addon && loaded.path.startsWith(root), JSON.stringify(loaded));
});
