// What the C entry sets in a new request is what TypeScript's own calls are made with.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { aggregations, centers, klEstimators, ratios } from '../../src/devices/settings.js';
import { resolveAdvantage, resolveLoss } from '../../src/loss/config.js';
import { planLogits } from '../../src/loss/request.js';
import { cannotBuild, outputOf, root, run, withFolder } from '../support/native.js';

const fields = {
  groupgrad_advantage_request: [
    'center',
    'scale',
    'ddof',
    'epsilon',
    'hadw',
    'hadw_scale',
    'dqw_temperature',
    'anchor',
  ],
  groupgrad_policy_request: ['normalizer', 'global_sequences', 'metrics', 'loss_scale', 'advantages_per_token'],
  groupgrad_logits_request: ['temperature', 'policy.loss_scale', 'zeroed'],
  groupgrad_logits_backward_request: ['temperature', 'loss_scale', 'zeroed'],
} as const;

const configFields = [
  'ratio',
  'aggregation',
  'drop_empty_sequences',
  'max_length',
  'log_ratio_clamp',
  'off_policy_threshold',
  'kl_beta',
  'kl_estimator',
  'kl_importance_weighted',
  'kl_log_ratio_clamp',
  'entropy_coefficient',
  'top_quantile',
  'entropy_tokens',
  'entropy_threshold',
] as const;

/** The fields of each request as C initialises it; what of groupgrad.cpp needs the CUDA device is left out of the program. */
function initialised(): Record<string, Record<string, number>> {
  const print = (request: string, names: readonly string[]) =>
    [
      `${request} ${request}_;`,
      // What is not set stays recognisable.
      `std::memset(&${request}_, 0x5a, sizeof ${request}_);`,
      `${request}_init(&${request}_);`,
      ...names.map((name) => `std::printf("${request} ${name} %.17g\\n", double(${request}_.${name}));`),
    ].join('\n');
  const all = Object.entries(fields).map(([request, names]) =>
    print(
      request,
      request === 'groupgrad_policy_request' ? [...names, ...configFields.map((name) => `config.${name}`)] : names,
    ),
  );
  const program = ['#include <cstdio>', '#include <cstring>', '#include "groupgrad.h"', 'int main() {', ...all, '}'];
  return withFolder((folder) => {
    const source = join(folder, 'main.cpp');
    const output = join(folder, 'main');
    writeFileSync(source, `${program.join('\n')}\n`);
    const folders = ['-I', join(root, 'test', 'native', 'simt'), '-I', join(root, 'native', 'c')];
    const flags = ['-std=c++20', '-O1', '-Wno-unknown-pragmas', '-ffunction-sections', '-Wl,--gc-sections'];
    const sources = [source, join(root, 'native', 'c', 'groupgrad.cpp')];
    const compiler = process.env.CXX ?? 'c++';
    const built = run(compiler, [...flags, ...folders, '-DGROUPGRAD_VERSION="test"', ...sources, '-o', output]);
    assert.equal(built.status, 0, outputOf(built));
    const found: Record<string, Record<string, number>> = {};
    for (const line of run(output, []).stdout.trim().split('\n')) {
      const [request, name, value] = line.split(' ');
      found[request] = { ...found[request], [name.replace('config.', '')]: toNumber(value) };
    }
    return found;
  });
}

function toNumber(text: string): number {
  return text === 'inf' ? Infinity : /nan/.test(text) ? NaN : Number(text);
}

const skip = process.platform !== 'linux' ? 'for the linker of Linux' : cannotBuild();

test("the C entry begins with TypeScript's defaults", { skip }, () => {
  const c = initialised();
  const { hadw, dqw: _, ...advantage } = resolveAdvantage('config', { groupSize: 1, hadw: {} });
  // groupgrad.h numbers the scales in an order of its own.
  const scales = ['group-std', 'batch-std', 'none', 'group-mad'];
  assert.deepEqual(c.groupgrad_advantage_request, {
    center: centers.indexOf(advantage.center),
    scale: scales.indexOf(advantage.scale),
    ddof: advantage.ddof,
    epsilon: advantage.epsilon,
    hadw: 0,
    hadw_scale: hadw!.scale,
    dqw_temperature: 0,
    anchor: hadw!.anchor,
  });
  const length = 7;
  const loss = resolveLoss({ surrogate: { kind: 'reinforce' } }, length);
  const tokens = {
    shape: { sequences: 1, length: 1, vocab: 2 },
    logits: new Float32Array(2),
    tokens: new Int32Array(1),
    advantages: new Float32Array(1),
  };
  const call = planLogits(tokens, { surrogate: { kind: 'reinforce' } }, {}, false);
  assert.deepEqual(c.groupgrad_policy_request, {
    normalizer: call.normalizer,
    global_sequences: call.globalSequences,
    metrics: Number(call.metrics),
    loss_scale: call.lossScale,
    advantages_per_token: 0,
    ratio: ratios.indexOf(loss.ratio),
    aggregation: aggregations.indexOf(loss.aggregation),
    drop_empty_sequences: Number(loss.emptySequences === 'drop'),
    // The request's length, which is TypeScript's default too.
    max_length: NaN,
    log_ratio_clamp: loss.logRatioClamp,
    off_policy_threshold: loss.offPolicyThreshold,
    kl_beta: loss.kl.beta,
    kl_estimator: klEstimators.indexOf(loss.kl.estimator),
    kl_importance_weighted: Number(loss.kl.importanceWeighted),
    kl_log_ratio_clamp: loss.kl.logRatioClamp,
    entropy_coefficient: loss.entropy.coefficient,
    top_quantile: loss.entropy.topQuantile,
    entropy_tokens: loss.entropy.tokens,
    entropy_threshold: loss.entropy.threshold,
  });
  assert.equal(loss.maxLength, length);
  const { temperature, lossScale } = call;
  assert.deepEqual(c.groupgrad_logits_request, { temperature, 'policy.loss_scale': lossScale, zeroed: 0 });
  assert.deepEqual(c.groupgrad_logits_backward_request, { temperature, loss_scale: lossScale, zeroed: 0 });
});
