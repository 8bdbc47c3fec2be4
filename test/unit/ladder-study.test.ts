// The mathematics of the ladder study (examples/studies/ladder): exact expectations compared with enumeration of all answers and
// with the gradient of a policy; learners compared with the library's own gradient.

import assert from 'node:assert/strict';
import test from 'node:test';
import type { StudyConfiguration } from '../../examples/studies/ladder/configuration.js';
import {
  bestScales,
  errorAt,
  expectations,
  levelOf,
  mixtureExpectations,
  nearerScales,
  type Situation,
  trueAdvantages,
} from '../../examples/studies/ladder/exact.js';
import { simulate } from '../../examples/studies/ladder/fixed-policy.js';
import { ascend, drawUniforms, learn, uniformPolicies } from '../../examples/studies/ladder/learning.js';
import { intervalOf, meanOf, medianOf, studentQuantile } from '../../examples/studies/ladder/statistics.js';
import { logitsLoss, presets, tasks } from '../../src/index.js';

// Advantages from a device are float32: 2^-24 each, and sums of them over probabilities that add up to 1.
const float32 = 2e-7;

function assertClose(actual: number, expected: number, bound = float32 * Math.max(1, Math.abs(expected))) {
  assert.ok(Math.abs(actual - expected) <= bound, `${actual}, expected ${expected} within ${bound}`);
}

const probabilities = [0.02, 0.1, 0.3, 0.5, 0.77, 0.98];
const situations: Situation[] = probabilities.flatMap((p) =>
  [2, 4, 7].flatMap((groupSize) =>
    (['none', 'group-std'] as const).flatMap((scale) =>
      [undefined, 0.2, 0.8].map((anchor) => ({ p, groupSize, scale, anchor })),
    ),
  ),
);

/** Advantages of one group, written out: r − p̂, divided by the deviation, times Φ (docs/losses.md, "Advantages"). */
function advantagesOf(rewards: readonly number[], { scale, anchor }: Situation): number[] {
  const mean = rewards.reduce((a, b) => a + b) / rewards.length;
  const variance = rewards.reduce((total, r) => total + (r - mean) ** 2, 0) / (rewards.length - 1);
  return rewards.map((r) => {
    const advantage = (r - mean) / (scale === 'none' ? 1 : Math.sqrt(variance) + 1e-4);
    return anchor === undefined ? advantage : advantage * Math.exp(-Math.sign(advantage) * (mean - anchor));
  });
}

/** Every sequence of G values below `choices`. */
function sequences(length: number, choices: number): number[][] {
  return Array.from({ length: choices ** length }, (_, n) =>
    Array.from({ length }, (_, i) => Math.floor(n / choices ** i) % choices),
  );
}

test('expectations agree with enumeration of all answers', () => {
  for (const situation of situations) {
    const { p, groupSize, scale } = situation;
    const truth = trueAdvantages(p, scale);
    const total = { active: 0, right: 0, rights: 0, wrong: 0, wrongs: 0, square: 0, cross: 0, truths: 0, step: 0 };
    const byGroup = { right: 0, wrong: 0 };
    for (const rewards of sequences(groupSize, 2)) {
      const probability = rewards.reduce((product, r) => product * (r === 1 ? p : 1 - p), 1);
      const right = rewards.indexOf(1);
      const wrong = rewards.indexOf(0);
      if (right < 0 || wrong < 0) continue;
      const advantages = advantagesOf(rewards, situation);
      total.active += probability;
      byGroup.right += probability * advantages[right];
      byGroup.wrong += probability * advantages[wrong];
      rewards.forEach((r, i) => {
        const a = r === 1 ? truth.right : truth.wrong;
        total.square += (probability * advantages[i] ** 2) / groupSize;
        total.cross += (probability * advantages[i] * a) / groupSize;
        total.truths += (probability * a ** 2) / groupSize;
        if (r === 1) {
          total.rights += probability;
          total.right += probability * advantages[i];
        } else {
          total.wrongs += probability;
          total.wrong += probability * advantages[i];
        }
      });
    }
    const actual = expectations(situation);
    assertClose(actual.active, total.active);
    assertClose(actual.right, total.right / total.rights);
    assertClose(actual.wrong, total.wrong / total.wrongs);
    assertClose(actual.rightByGroup, byGroup.right / total.active);
    assertClose(actual.wrongByGroup, byGroup.wrong / total.active);
    assertClose(actual.square, total.square / total.active, 1e-6 * actual.square);
    assertClose(actual.withTruth, total.cross / total.active, 1e-6 * actual.withTruth);
    assertClose(actual.truthSquare, total.truths / total.active, 1e-6 * actual.truthSquare);
  }
});

test('the expected gradient of a softmax policy is `gradient` times the true one, including its direction', () => {
  // Five arms with different logits, of which two win: nothing is uniform.
  const logits = [0.3, -1, 0.8, 0.1, -0.4];
  const wins = [1, 0, 0, 1, 0];
  const weights = logits.map(Math.exp);
  const policy = weights.map((w) => w / weights.reduce((a, b) => a + b));
  const p = policy.reduce((total, probability, arm) => total + probability * wins[arm], 0);
  const slope = policy.map((probability, arm) => probability * (wins[arm] - p));
  for (const scale of ['none', 'group-std'] as const) {
    for (const anchor of [undefined, 0.15, 0.9]) {
      const situation: Situation = { p, groupSize: 4, scale, anchor };
      const expected = Array<number>(5).fill(0);
      let squares = 0;
      for (const arms of sequences(4, 5)) {
        const probability = arms.reduce((product, arm) => product * policy[arm], 1);
        const rewards = arms.map((arm) => wins[arm]);
        if (new Set(rewards).size === 1) continue;
        const advantages = advantagesOf(rewards, situation);
        const gradient = policy.map((share, j) =>
          arms.reduce((total, arm, i) => total + (advantages[i] * ((arm === j ? 1 : 0) - share)) / 4, 0),
        );
        for (let j = 0; j < 5; j++) expected[j] += probability * gradient[j];
        // The step along ∇p is that of a policy with two answers, right and wrong.
        const twoAnswers = rewards.reduce((total, r, i) => total + (advantages[i] * (r - p)) / 4, 0) / (p * (1 - p));
        squares += probability * twoAnswers ** 2;
      }
      const unit = scale === 'none' ? 1 : Math.sqrt(p * (1 - p));
      const { gradient, gradientDeviation } = expectations(situation);
      for (let j = 0; j < 5; j++) assertClose(expected[j], (gradient * slope[j]) / unit);
      assertClose(gradientDeviation, Math.sqrt(squares * unit ** 2 - gradient ** 2), 1e-6);
    }
  }
});

test('over all groups r − p̂ gives (G − 1)/G of the true gradient, for every prompt', () => {
  for (const p of probabilities) {
    for (const groupSize of [2, 4, 8, 16]) {
      const e = expectations({ p, groupSize, scale: 'none' });
      const share = (groupSize - 1) / groupSize;
      assertClose(e.gradient, share);
      assertClose(e.right, (share * (1 - p)) / (1 - p ** (groupSize - 1)));
      assertClose(e.wrong, (-share * p) / (1 - (1 - p) ** (groupSize - 1)));
      // Lemma 2: E[p̂ | S] = p (1 − p^(G−1)) / (1 − (1−p)^G − p^G).
      const lemma = (p * (1 - p ** (groupSize - 1))) / (1 - (1 - p) ** groupSize - p ** groupSize);
      assertClose(e.rightByGroup, 1 - lemma);
      assertClose(e.wrongByGroup, -lemma);
    }
  }
});

test('the best λ minimises the error and removes the bias', () => {
  for (const situation of situations) {
    const e = expectations(situation);
    const best = bestScales(situation);
    const truth = trueAdvantages(situation.p, situation.scale);
    for (const other of [0.99, 1.01]) assert.ok(errorAt(e, best.error * other) > errorAt(e, best.error));
    assertClose(best.right * e.right, truth.right, 1e-9);
    assertClose(best.wrong * e.wrong, truth.wrong, 1e-9);
    assertClose(best.gradient * e.gradient, 1, 1e-9);
  }
});

test('an interval of λ brings an advantage closer to the true one; at its end the error equals that without HA-DW', () => {
  for (const situation of situations.filter(({ anchor }) => anchor !== undefined)) {
    const truth = trueAdvantages(situation.p, situation.scale);
    const plain = expectations({ ...situation, anchor: undefined });
    const weighted = expectations(situation);
    const ranges = nearerScales(situation);
    for (const answer of ['right', 'wrong'] as const) {
      const key = `${answer}ByGroup` as const;
      const away = (lambda: number) => Math.abs(lambda * weighted[key] - truth[answer]);
      const without = Math.abs(plain[key] - truth[answer]);
      const [low, high] = ranges[answer];
      assertClose(away(high), without, 1e-9);
      if (low > 0) assertClose(away(low), without, 1e-9);
      else assert.ok(away(0) <= without + 1e-9);
      if (without > 1e-5) assert.ok(away((low + high) / 2) < without);
    }
  }
});

test('a batch weights prompts by their number, and answers by how many have a gradient', () => {
  const mixture = { rungs: [0.1, 0.6], prompts: [3, 1] };
  const situation = { groupSize: 4, scale: 'none', anchor: 0.4 } as const;
  const [hard, easy] = mixture.rungs.map((p) => expectations({ ...situation, p }));
  assertClose(levelOf(mixture), 0.225, 1e-12);
  const square = (lambda: number) =>
    (3 * hard.active * errorAt(hard, lambda) ** 2 + easy.active * errorAt(easy, lambda) ** 2) /
    (3 * hard.active + easy.active);
  const at = mixtureExpectations(mixture, situation, 1.3);
  assertClose(at.error, Math.sqrt(square(1.3)), 1e-12);
  const best = mixtureExpectations(mixture, situation);
  assertClose(best.error, Math.sqrt(square(best.lambda)), 1e-12);
  for (const other of [0.99, 1.01]) assert.ok(square(best.lambda) < square(best.lambda * other));
  const offBy = (lambda: number) => 3 * (lambda * hard.gradient - 1) ** 2 + (lambda * easy.gradient - 1) ** 2;
  for (const other of [0.99, 1.01]) assert.ok(offBy(best.gradientLambda) < offBy(best.gradientLambda * other));
  // The gradient's squared length is p (1 − p) / n on a prompt of n arms; n cancels.
  const [a, b] = [3 * 0.1 * 0.9, 0.6 * 0.4];
  const cosine =
    (a * hard.gradient + b * easy.gradient) / Math.sqrt((a + b) * (a * hard.gradient ** 2 + b * easy.gradient ** 2));
  assertClose(best.gradientCosine, cosine, 1e-12);
  const plain = mixtureExpectations(mixture, { ...situation, anchor: undefined }, 1);
  assertClose(plain.gradientCosine, 1, 1e-12);
});

test('a learner takes the step of the REINFORCE loss', () => {
  const [prompts, arms, groupSize] = [3, 5, 4];
  const policies = uniformPolicies(prompts, arms);
  const rewards = [1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0];
  const answers = Int32Array.from([0, 3, 3, 1, 4, 2, 0, 0, 1, 2, 1, 3]);
  const advantages = rewards.map((r, i) => (r - 0.3) * (1 + i / 7));
  const step = () => {
    for (let prompt = 0; prompt < prompts; prompt++) {
      const [start, end] = [prompt * groupSize, (prompt + 1) * groupSize];
      ascend(policies, prompt, answers.subarray(start, end), Float64Array.from(advantages.slice(start, end)), 0.7);
    }
  };
  // From unequal logits: the first step leaves the uniform policy.
  step();
  const before = Float64Array.from(policies.logits);
  const rows = Float32Array.from({ length: prompts * groupSize * arms }, (_, i) => {
    const sequence = Math.floor(i / arms);
    return before[Math.floor(sequence / groupSize) * arms + (i % arms)];
  });
  const { gradLogits } = logitsLoss(
    {
      shape: { sequences: prompts * groupSize, length: 1, vocab: arms },
      logits: rows,
      tokens: answers,
      advantages: Float32Array.from(advantages),
    },
    { ...presets.reinforce, aggregation: 'sequence-sum' },
    { device: 'reference' },
  );
  step();
  for (let row = 0; row < prompts * arms; row++) {
    const [prompt, arm] = [Math.floor(row / arms), row % arms];
    let gradient = 0;
    for (let i = 0; i < groupSize; i++) gradient += gradLogits[(prompt * groupSize + i) * arms + arm];
    // The loss is a mean over all sequences, the learner's gradient over a group.
    assertClose(policies.logits[row] - before[row], -0.7 * prompts * gradient, 1e-6);
  }
  for (let prompt = 0; prompt < prompts; prompt++) {
    const own = policies.probabilities.subarray(prompt * arms, (prompt + 1) * arms);
    assertClose(
      own.reduce((a, b) => a + b),
      1,
      1e-12,
    );
  }
});

const configuration: StudyConfiguration = {
  seed: 1,
  arms: 10,
  rungs: [0.1, 0.5],
  mixtures: { even: [3, 2] },
  groupSizes: [4],
  advantageScales: ['none'],
  hadwScales: [1],
  hadwScale: 1,
  anchors: { 'batch mean': { window: 1, timing: 'posterior' }, 'window 10': { window: 10 } },
  simulation: { batches: 1, warmup: 0, anchors: [] },
  learning: {
    seeds: 2,
    samplesPerPrompt: 400,
    learningRate: 1,
    groupSize: 4,
    mixture: 'even',
    anchor: 'window 10',
    points: 1,
  },
};
const place = { name: '', mixture: 'even', groupSize: 4, scale: 'none' } as const;
const uniforms = drawUniforms(1, 100, 5, 4);

test('learners start at the rungs, improve, and are reproducible with the same seed', () => {
  const run = learn(configuration, place, 1, uniforms);
  assert.equal(run.success.length, 101);
  assertClose(run.success[0], (3 * 0.1 + 2 * 0.5) / 5, 1e-12);
  assert.deepEqual(
    run.rungs.map((curve) => Number(curve[0].toFixed(12))),
    [0.1, 0.5],
  );
  for (const curve of run.rungs) assert.ok(curve[100] > 0.8);
  assertClose(run.success[100], (3 * run.rungs[0][100] + 2 * run.rungs[1][100]) / 5, 1e-12);
  assert.deepEqual(learn(configuration, place, 1, uniforms), run);
});

test('advantages × λ act like a larger learning rate, and the size of HA-DW at λ is λ times that at 1', () => {
  const faster = { ...configuration, learning: { ...configuration.learning, learningRate: 1.5 } };
  assert.deepEqual(learn(configuration, { ...place, factor: 1.5 }, 1, uniforms), learn(faster, place, 1, uniforms));
  const hadw = (scale: number) => ({ ...place, sizeAlone: true, hadw: { scale, anchor: 'window 10' } });
  const [once, scaled] = [learn(faster, hadw(1), 1, uniforms), learn(configuration, hadw(1.5), 1, uniforms)];
  for (let step = 0; step <= 100; step++) assertClose(scaled.success[step], once.success[step], 1e-4);
});

test('a learner uses its anchor from before a batch, or with posterior timing from after it', () => {
  // Answers that all lose, then answers that all win: no group has a gradient, and the level does not change.
  const task = tasks.bandit({ seed: 1, probabilities: configuration.rungs, arms: 10, contexts: 3 });
  const examples = [0, 2, 4, 1, 3].map((index) => task.example(index));
  const answers = (reward: number) =>
    Float64Array.from({ length: 20 }, (_, i) => {
      const arm = [...'abcdefghij'].findIndex((name) => task.score(name, examples[Math.floor(i / 4)]) === reward);
      return (arm + 0.5) / 10;
    });
  const two = { ...configuration, learning: { ...configuration.learning, samplesPerPrompt: 8 } };
  const level = 0.26;
  const errorWith = (anchor: string) => {
    const run = learn(two, { ...place, hadw: { scale: 1, anchor } }, 1, [answers(0), answers(1)]);
    for (const success of run.success) assertClose(success, level, 1e-12);
    return run.anchorError;
  };
  assertClose(errorWith('batch mean'), Math.sqrt((level ** 2 + (1 - level) ** 2) / 2), 1e-12);
  assertClose(errorWith('window 10'), level, 1e-12);
  assert.ok(Number.isNaN(learn(two, place, 1, [answers(0), answers(1)]).anchorError));
});

test('the simulation observes a batch once: after its advantages, or with posterior timing before them', () => {
  const [before, after, long] = simulate({
    ...configuration,
    rungs: [0.5],
    mixtures: { even: [1] },
    groupSizes: [2],
    anchors: {
      before: { window: 1 },
      after: { window: 1, timing: 'posterior' },
      long: { window: 10, timing: 'posterior' },
    },
    simulation: { batches: 2000, warmup: 10, anchors: ['before', 'after', 'long'] },
  });
  // One group of two answers is its own batch: if it has a gradient, its mean is 1/2, and so is the anchor after it.
  assert.deepEqual(
    after.rungs.map(({ right, wrong }) => [right.simulated, wrong.simulated]),
    [[0.5, -0.5]],
  );
  assert.ok(before.rungs[0].right.simulated > 0.51);
  // The mean of ten batches, each with deviation √(1/4 / 2); if each were observed twice, it would be of five, .155.
  assertClose(long.anchorDeviation, Math.sqrt(1 / 80), 0.02);
});

test('with true advantages of all answers, groups without spread take steps too', () => {
  const one = { ...configuration, learning: { ...configuration.learning, samplesPerPrompt: 4 } };
  // The first arm wins or loses; all answers are equal.
  const same = [new Float64Array(20).fill(0.01)];
  assert.equal(learn(one, place, 1, same).success[1], learn(one, place, 1, same).success[0]);
  const { success } = learn(one, { ...place, truth: 'all' }, 1, same);
  assert.notEqual(success[1], success[0]);
  assert.equal(learn(one, { ...place, truth: 'active' }, 1, same).success[1], success[0]);
});

test('true advantages are 0 where all answers are equal', () => {
  for (const scale of ['none', 'group-std'] as const) {
    assert.equal(trueAdvantages(1, scale).right, 0);
    assert.equal(Math.abs(trueAdvantages(0, scale).wrong), 0);
  }
});

test('means, intervals, quantiles and medians', () => {
  assert.deepEqual(meanOf([1, 2, 3]), { mean: 2, error: Math.sqrt(1 / 3) });
  // From tables of Student's distribution.
  for (const [freedom, quantile] of [
    [5, 2.570582],
    [10, 2.228139],
    [19, 2.093024],
    [60, 2.000298],
  ]) {
    assertClose(studentQuantile(freedom), quantile, 0.001);
  }
  const values = Array.from({ length: 20 }, (_, i) => i);
  const { mean, error, low, high } = intervalOf(values);
  assert.equal(mean, 9.5);
  assertClose(high - mean, 2.093024 * error, 0.001);
  assertClose(mean - low, high - mean, 1e-12);
  assert.equal(medianOf([5, Number.POSITIVE_INFINITY, 1, 3]), 3);
});
