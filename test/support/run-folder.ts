// A run folder like a trainer's, with numbers that look like learning.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { seeded } from './random.js';

export function writeRun(dir: string, steps: number): void {
  mkdirSync(dir, { recursive: true });
  const random = seeded(steps);
  const lines = (make: (step: number) => object) =>
    Array.from({ length: steps }, (_, i) => `${JSON.stringify(make(i + 1))}\n`).join('');
  const file = (name: string, content: string) => writeFileSync(join(dir, name), content);
  let anchor = 0.3;
  let time = 0;

  file(
    'config.json',
    JSON.stringify({
      version: '0.1.0',
      backend: 'wasm',
      device: 'cpu',
      seed: 42,
      task: { name: 'addition of 1 to 2 digits', digits: [1, 2] },
      groupSize: 8,
      promptsPerStep: 16,
      loss: { ratio: 'token', surrogate: { kind: 'clip', low: 0.2, high: 0.28 }, kl: { beta: 0.04, estimator: 'k3' } },
      hadw: { scale: 1.3, anchor: { update: 'window', window: 10 } },
      optimizer: { learningRate: 0.001, weightDecay: 0.01, schedule: 'cosine', warmupSteps: 10 },
    }),
  );
  file(
    'metrics.jsonl',
    lines((step) => {
      const share = step / Math.max(steps, 100);
      const noise = (size: number) => size * random.normal();
      const level = (difficulty: number) => {
        const p = 0.95 / (1 + Math.exp(-10 * (share - 0.08 * difficulty - 0.05)));
        return Math.min(1, Math.max(0, p + noise(0.06)));
      };
      const reward = Math.min(1, Math.max(0, 0.3 + 0.65 * (1 - Math.exp(-4 * share)) + noise(0.04)));
      anchor += 0.1 * (reward - anchor);
      const length = 3.2 + noise(0.15);
      const evaluates = step === 1 || step % 25 === 0;
      return {
        step,
        reward: reward - 0.02,
        reward_std: 0.4 * (1 - share) + 0.05 + Math.abs(noise(0.02)),
        frac_reward_zero_std: Math.min(1, 0.15 + 0.6 * share + Math.abs(noise(0.05))),
        'rewards/correct/mean': reward,
        'rewards/correct/std': 0.4 * (1 - share) + 0.05,
        'rewards/brief/mean': -length / 256,
        'rewards/brief/std': 0.003,
        'completions/mean_length': length,
        'completions/min_length': 2,
        'completions/max_length': 4,
        'completions/clipped_ratio': Math.max(0, 0.05 - share / 10 + noise(0.004)),
        'clip_ratio/low_mean': Math.abs(noise(0.01)),
        'clip_ratio/low_min': 0,
        'clip_ratio/high_mean': Math.abs(noise(0.02)),
        'clip_ratio/high_max': 0.05 + Math.abs(noise(0.02)),
        'clip_ratio/region_mean': 0.02 + Math.abs(noise(0.01)),
        kl: 0.02 * share + Math.abs(noise(0.001)),
        entropy: 1.1 * Math.exp(-3 * share) + 0.05 + Math.abs(noise(0.02)),
        loss: noise(0.02),
        grad_norm: 0.5 + Math.abs(noise(0.2)) + (random.chance(0.01) ? 3 : 0),
        learning_rate: (0.001 * Math.min(1, step / 10) * (1 + Math.cos(Math.PI * share))) / 2,
        accuracy: reward,
        ...Object.fromEntries(
          [1, 2, 3, 4, 5, 6].map((d) => [`accuracy/${d}`, level(d)]).filter(() => !random.chance(0.1)),
        ),
        'hadw/anchor': anchor,
        'hadw/weight_mean': 1.3 + noise(0.05),
        'hadw/weight_min': 0.7 + Math.abs(noise(0.1)),
        'hadw/weight_max': 2.1 + noise(0.1),
        'sampling/log_prob_difference_mean': Math.abs(noise(1e-7)),
        'sampling/log_prob_difference_max': 1e-6 + Math.abs(noise(1e-6)),
        'groups/resampled': random.integer(0, 4),
        tokens: 410 + random.integer(0, 20),
        ...(evaluates && {
          'eval/held-out/accuracy': Math.min(1, reward + 0.02),
          ...Object.fromEntries([1, 2, 3, 4, 5, 6].map((d) => [`eval/held-out/accuracy/${d}`, level(d)])),
          'eval/hard/accuracy': level(5),
        }),
      };
    }),
  );
  file(
    'timing.jsonl',
    lines((step) => {
      const part = (seconds: number) => seconds * (1 + 0.1 * Math.abs(random.normal()));
      const parts = {
        'time/sampling': part(0.11),
        'time/rewards': part(0.004),
        'time/advantages': part(0.002),
        'time/forward_backward': part(0.06),
        'time/optimizer': part(0.008),
      };
      const whole = Object.values(parts).reduce((a, b) => a + b) + part(0.01);
      time += whole;
      return { step, time, ...parts, 'time/loss': part(0.01), 'time/step': whole, tokens_per_second: 410 / whole };
    }),
  );
  file(
    'samples.jsonl',
    lines((step) => {
      const right = random.chance(0.6);
      return {
        step,
        prompt: '57+68=',
        answer: '521',
        completion: right ? '521' : random.pick(['523', '52', '125', '']),
        rewards: { correct: right ? 1 : 0, brief: random.chance(0.1) ? null : -0.012 },
        advantage: random.normal(),
        truncated: random.chance(0.05),
      };
    }),
  );
}
