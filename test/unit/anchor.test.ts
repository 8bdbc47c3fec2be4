// The difficulty anchor: both updates, its state in a checkpoint, and errors.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { type AnchorOptions, type AnchorState, DifficultyAnchor } from '../../src/index.js';
import { assertNumber } from '../support/compare.js';
import { seeded } from '../support/random.js';

/** Sums of ten float64 values of order 1 and a few operations on them. */
const rounding = 1e-14;

function after(options: AnchorOptions, accuracies: readonly number[]): DifficultyAnchor {
  const anchor = new DifficultyAnchor(options);
  for (const y of accuracies) anchor.observe(y);
  return anchor;
}

/** 200 batches whose accuracy rises from 0.3 to 0.6, with noise of standard deviation 0.03. */
function rising(seed: number): number[] {
  const random = seeded(seed);
  return Array.from({ length: 200 }, (_, step) => 0.3 + 0.3 * (step / 199) + 0.03 * random.normal());
}

for (const update of ['window', 'kalman'] as const) {
  describe(`${update} anchor`, () => {
    test('is undefined before the first observation, and equal to it afterwards', () => {
      const anchor = new DifficultyAnchor({ update });
      assert.equal(anchor.value, undefined);
      anchor.observe(0.375);
      assert.equal(anchor.value, 0.375);
    });

    test('is the mean of all observations while the window fills', () => {
      const anchor = after({ update, window: 4 }, [0.1, 0.5, 0.9, 0.7]);
      assertNumber(anchor.value as number, 0.55, rounding, 'value');
    });

    test('continues from its JSON as if it had never been stopped', () => {
      const accuracies = rising(1);
      // Stops after no history, less than a window, exactly a window and more than a window.
      for (const stop of [0, 1, 7, 10, 50]) {
        const original = after({ update, eta: 0.7, timing: 'posterior' }, accuracies.slice(0, stop));
        const restored = DifficultyAnchor.fromJSON(JSON.parse(JSON.stringify(original)));
        assert.deepEqual(restored.toJSON(), original.toJSON());
        assert.equal(restored.timing, 'posterior');
        for (const y of accuracies.slice(stop)) {
          assert.equal(restored.value, original.value);
          original.observe(y);
          restored.observe(y);
        }
        assert.deepEqual(restored.toJSON(), original.toJSON());
      }
    });

    test('returns a state that later observations do not change, and copies a state that it is given', () => {
      const anchor = after({ update }, [0.25, 0.5]);
      const state = anchor.toJSON();
      const copy = structuredClone(state);
      anchor.observe(1);
      assert.deepEqual(state, copy);
      const restored = DifficultyAnchor.fromJSON(state);
      state.history[1] = 9;
      assert.deepEqual(restored.toJSON(), copy);
    });

    test('follows an accuracy that rises from 0.3 to 0.6 over 200 batches', () => {
      // Lag behind a ramp of 0.0015 per batch: half a window (5 batches) or 1 / gain (at most 1 / 0.05 = 20 batches), so
      // 0.0075 or 0.03; the remaining noise is 0.03 / sqrt(10) or 0.03 sqrt(g / (2 − g)) with g ≤ 0.05 + 0.03; five of
      // them, for 3,800 batches in total.
      const allowed = update === 'window' ? 0.0075 + 5 * 0.0095 : 0.03 + 5 * 0.0062;
      for (let seed = 1; seed <= 20; seed++) {
        const anchor = new DifficultyAnchor({ update });
        rising(seed).forEach((y, step) => {
          anchor.observe(y);
          const level = 0.3 + 0.3 * (step / 199);
          if (step >= 10) assertNumber(anchor.value as number, level, allowed, `seed ${seed}, batch ${step}`);
        });
      }
    });
  });
}

test('window: the anchor is the mean of the last `window` accuracies', () => {
  const accuracies = rising(3);
  for (const window of [1, 3, 10]) {
    const anchor = new DifficultyAnchor({ window });
    accuracies.forEach((y, step) => {
      anchor.observe(y);
      const last = accuracies.slice(Math.max(0, step + 1 - window), step + 1);
      assertNumber(anchor.value as number, last.reduce((a, b) => a + b, 0) / last.length, rounding, `batch ${step}`);
    });
  }
});

describe('kalman gain', () => {
  // The running means of 0.2, 0.4, 0.9: a window of anchors 0.2, 0.3, 0.5.
  const filled = [0.2, 0.4, 0.9];
  const sigma = Math.sqrt(((0.2 - 1 / 3) ** 2 + (0.3 - 1 / 3) ** 2 + (0.5 - 1 / 3) ** 2) / 3);
  const next = (options: AnchorOptions) =>
    after({ update: 'kalman', window: 3, ...options }, [...filled, 0.1]).value as number;

  test('is eta times the population standard deviation of the last anchors', () => {
    assertNumber(next({ eta: 2 }), 0.5 + 2 * sigma * (0.1 - 0.5), rounding, 'value');
  });

  test('is at least minGain, whatever eta is', () => {
    assertNumber(next({ eta: 0, minGain: 0.25 }), 0.5 + 0.25 * (0.1 - 0.5), rounding, 'value');
  });

  test('is at most 1, where the anchor equals the observation', () => {
    assertNumber(next({ eta: 1e6 }), 0.1, rounding, 'value');
  });

  test('never freezes: after equal anchors it moves by minGain', () => {
    const anchor = after({ update: 'kalman', eta: 0.1 }, new Array(30).fill(0.5));
    assert.equal(anchor.value, 0.5);
    for (let k = 1; k <= 5; k++) {
      anchor.observe(0.9);
      // eta·σ stays under minGain here: σ is at most 0.09 after five steps.
      assertNumber(anchor.value as number, 0.9 - 0.4 * 0.95 ** k, 1e-13, `step ${k}`);
    }
  });

  test('with eta 0.1, where eta·σ alone would stop at 0.32, follows the rise to 0.6', () => {
    const anchor = after({ update: 'kalman', eta: 0.1 }, rising(5));
    assertNumber(anchor.value as number, 0.6 - 0.03, 4 * 0.0048, 'value'); // behind by 0.0015 / 0.05
  });
});

describe('options', () => {
  test('timing is prior by default, posterior if requested', () => {
    assert.equal(new DifficultyAnchor().timing, 'prior');
    assert.equal(new DifficultyAnchor({ timing: 'posterior' }).timing, 'posterior');
  });

  test('defaults: a window of 10, eta 1, minGain 0.05', () => {
    const state: AnchorState = {
      update: 'window',
      window: 10,
      eta: 1,
      minGain: 0.05,
      timing: 'prior',
      observed: 0,
      history: [],
    };
    assert.deepEqual(new DifficultyAnchor().toJSON(), state);
  });

  const wrong: [unknown, typeof TypeError | typeof RangeError, string][] = [
    [null, TypeError, 'options: expected an object, got null'],
    [{ update: 'ema' }, RangeError, `options.update: expected one of 'window', 'kalman', got "ema"`],
    [{ update: 1 }, TypeError, `options.update: expected one of 'window', 'kalman', got 1`],
    [{ window: 0 }, RangeError, 'options.window: expected an integer at least 1 and at most 1000000, got 0'],
    [{ window: 2.5 }, RangeError, 'options.window: expected an integer at least 1 and at most 1000000, got 2.5'],
    [{ window: '10' }, TypeError, 'options.window: expected an integer at least 1 and at most 1000000, got "10"'],
    [{ eta: -1 }, RangeError, 'options.eta: expected a finite number at least 0, got -1'],
    [{ eta: NaN }, RangeError, 'options.eta: expected a finite number at least 0, got NaN'],
    [{ minGain: 0 }, RangeError, 'options.minGain: expected a finite number above 0 and at most 1, got 0'],
    [{ minGain: 1.5 }, RangeError, 'options.minGain: expected a finite number above 0 and at most 1, got 1.5'],
    [{ timing: 'late' }, RangeError, `options.timing: expected one of 'prior', 'posterior', got "late"`],
    [{ windows: 3 }, TypeError, 'options.windows: unknown field; expected one of update, window, eta, minGain, timing'],
  ];
  for (const [options, type, message] of wrong) {
    test(message, () => {
      assert.throws(() => new DifficultyAnchor(options as AnchorOptions), { name: type.name, message });
    });
  }
});

describe('observations and states', () => {
  for (const [accuracy, type, got] of [
    [NaN, RangeError, 'NaN'],
    [Infinity, RangeError, 'Infinity'],
    ['0.5', TypeError, '"0.5"'],
    [undefined, TypeError, 'nothing'],
  ] as const) {
    test(`accuracy ${got} is rejected and leaves the anchor unchanged`, () => {
      const anchor = after({}, [0.5]);
      const before = anchor.toJSON();
      assert.throws(() => anchor.observe(accuracy as number), {
        name: type.name,
        message: `accuracy: expected a finite number, got ${got}`,
      });
      assert.deepEqual(anchor.toJSON(), before);
    });
  }

  const state = after({ window: 3 }, [0.1, 0.2, 0.3, 0.4]).toJSON();
  const wrong: [unknown, typeof TypeError | typeof RangeError, string][] = [
    [undefined, TypeError, 'state: expected an object, got nothing'],
    [{ ...state, history: 'none' }, TypeError, 'state.history: expected an array of numbers, got "none"'],
    [{ ...state, history: [0.2, NaN, 0.4] }, RangeError, 'state.history[1]: expected a finite number, got NaN'],
    [{ ...state, history: [0.2, 0.3] }, RangeError, 'state.history: expected 3 values after 4 observations, got 2'],
    [{ ...state, observed: -1 }, RangeError, 'state.observed: expected an integer at least 0, got -1'],
    [{ ...state, window: 0 }, RangeError, 'state.window: expected an integer at least 1 and at most 1000000, got 0'],
    [
      { ...state, extra: 1 },
      TypeError,
      'state.extra: unknown field; expected one of update, window, eta, minGain, timing, observed, history',
    ],
  ];
  for (const [value, type, message] of wrong) {
    test(message, () => {
      assert.throws(() => DifficultyAnchor.fromJSON(value as AnchorState), { name: type.name, message });
    });
  }
});
