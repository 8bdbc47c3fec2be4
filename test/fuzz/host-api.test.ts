// Random calls, both valid and damaged, on every device and on the addon itself. Whatever the input: a result whose
// arrays have the right lengths, or a TypeError or RangeError that begins with a field's name, or the caller's own error
// from the caller's own getter; never another error, never a crash (which would end this file's process).
//
// GROUPGRAD_FUZZ_RUNS sets the number of runs per property; each run then draws other calls.

import assert from 'node:assert/strict';
import test, { describe } from 'node:test';
import { types } from 'node:util';
import fc from 'fast-check';
import { loadAddon } from '../../src/devices/load.js';
import {
  type AdvantageResult,
  computeAdvantages,
  type LinearInput,
  type LogitsBackwardInput,
  type LogitsResult,
  linearLoss,
  logitsBackward,
  logitsLoss,
  type PolicyResult,
  policyLoss,
} from '../../src/index.js';
import { planAdvantages, planLogits, planLogitsBackward, planPolicy } from '../../src/loss/request.js';
import { testedDevices } from '../support/devices.js';
import { drawLogits, drawPolicy } from '../support/draw.js';
import { detach, hostile, hostileKinds, replaceByGetter, Sentinel, throwing } from '../support/hostile.js';
import { fill, seeded } from '../support/random.js';
import { repeats } from '../support/sets.js';

const given = process.env.GROUPGRAD_FUZZ_RUNS;
const parameters = given ? { numRuns: Number(given) } : { numRuns: repeats(800, 8000), seed: 1 };

type Fields = Record<string, unknown>;
type Arguments = unknown[];

/** Damage to a call; `at` chooses the place, `n` varies the value. */
type Damage =
  | { how: 'replace'; at: number; kind: string; n: number }
  | { how: 'anything'; at: number; value: unknown }
  | { how: 'delete' | 'throw' | 'resize' | 'retype' | 'value' | 'alias'; at: number; n: number }
  | { how: 'add'; at: number; key: string }
  | { how: 'detachLater'; at: number; n: number };

const at = fc.nat(1e6);
const n = fc.nat(1e6);
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ how: fc.constant('replace'), at, kind: fc.constantFrom(...hostileKinds), n }) },
  { weight: 1, arbitrary: fc.record({ how: fc.constant('anything'), at, value: fc.anything() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      how: fc.constantFrom('delete', 'throw', 'resize', 'retype', 'value', 'alias', 'detachLater'),
      at,
      n,
    }),
  },
  { weight: 1, arbitrary: fc.record({ how: fc.constant('add'), at, key: fc.string() }) },
) as fc.Arbitrary<Damage>;
const call = fc.record({ seed: fc.nat(), damages: fc.array(damage, { maxLength: 3 }) });

function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || types.isProxy(value)) return false;
  return Object.getPrototypeOf(value) === Object.prototype;
}

/** The arguments, and every property of plain objects within them. */
function places(root: object): { target: object; key: string }[] {
  const found: { target: object; key: string }[] = [];
  const visit = (target: object) => {
    for (const key of Object.keys(target)) {
      found.push({ target, key });
      const descriptor = Object.getOwnPropertyDescriptor(target, key);
      const value: unknown = descriptor?.value;
      if (isPlain(value)) visit(value);
    }
  };
  visit(root);
  return found;
}

const numberTypes = [Float32Array, Float64Array, Int32Array, Uint16Array, Uint8Array] as const;
type Numbers = InstanceType<(typeof numberTypes)[number]>;

/** The arrays in the arguments that can be damaged further: not those that are detached or have a false length. */
function arraysOf(root: object): Numbers[] {
  return places(root).flatMap(({ target, key }) => {
    const value: unknown = Object.getOwnPropertyDescriptor(target, key)?.value;
    if (!types.isTypedArray(value) || Object.hasOwn(value, 'length') || value.length === 0) return [];
    return numberTypes.some((type) => value.constructor === type) ? [value as Numbers] : [];
  });
}

function pick<T>(values: readonly T[], index: number): T | undefined {
  return values.length === 0 ? undefined : values[index % values.length];
}

/** One value more, one fewer or none; the same length of another type; or the memory of another array of the call. */
function otherArray(
  array: Numbers,
  how: 'resize' | 'retype' | 'alias',
  n: number,
  arrays: readonly Numbers[],
): Numbers {
  const Type = array.constructor as new (from: ArrayBufferLike | number, offset?: number, length?: number) => Numbers;
  if (how === 'retype') return new numberTypes[n % 5](array.length);
  if (how === 'resize') return new Type(Math.max(0, array.length + [1, -1, -array.length][n % 3]));
  const { buffer } = pick(arrays, n) ?? array;
  return buffer.byteLength < array.byteLength ? array : new Type(buffer, 0, array.length);
}

function apply(args: Arguments, damages: readonly Damage[]): void {
  for (const damage of damages) {
    const place = pick(places(args), damage.at);
    if (place === undefined) continue;
    const { target, key } = place;
    const set = (value: unknown) => {
      Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
    };
    const array = pick(arraysOf(args), damage.at);
    switch (damage.how) {
      case 'replace':
        set(hostile(damage.kind, damage.n));
        break;
      case 'anything':
        set(damage.value);
        break;
      case 'delete':
        delete (target as Fields)[key];
        break;
      case 'add':
        Object.defineProperty(target, damage.key, { value: 1, enumerable: true, configurable: true, writable: true });
        break;
      case 'throw':
        replaceByGetter(target, key, throwing);
        break;
      case 'detachLater': {
        // Reading this property detaches an array.
        const value: unknown = Object.getOwnPropertyDescriptor(target, key)?.value;
        const victim = pick(arraysOf(args), damage.n);
        replaceByGetter(target, key, () => {
          if (victim) detach(victim.buffer);
          return value;
        });
        break;
      }
      case 'resize':
      case 'retype':
      case 'alias': {
        const owner = places(args).find((p) => Object.getOwnPropertyDescriptor(p.target, p.key)?.value === array);
        if (!array || !owner) break;
        const value = otherArray(array, damage.how, damage.n, arraysOf(args));
        Object.defineProperty(owner.target, owner.key, { value, enumerable: true, configurable: true, writable: true });
        break;
      }
      case 'value':
        if (array) {
          array[damage.n % array.length] = [NaN, Infinity, -Infinity, -1, 2 ** 31 - 1, 1e38][damage.at % 6];
        }
        break;
    }
  }
}

const roots = [
  'input|config|options|shape|logProbs|oldLogProbs|refLogProbs|mask|advantages|rewards|advantage|tokenWeights|normalizer',
  'sequences|logits|dtype|tokens|temperature|gradLogProbs|gradEntropies|entropies|hidden|unembedding|softCap',
].join('|');
const message = new RegExp(`^(${roots})(\\.\\w+|\\[\\d+\\])*: `);

function isOurs(error: unknown): boolean {
  if (error instanceof Sentinel) return true;
  if (!(error instanceof TypeError || error instanceof RangeError)) return false;
  return message.test(error.message) || error.message.includes(': unknown field; expected one of ');
}

/** Runs the call; undefined if it was rejected correctly. */
function attempt<R>(run: () => R): R | undefined {
  try {
    return run();
  } catch (error) {
    if (isOurs(error)) return undefined;
    throw error;
  }
}

function checkAdvantages(result: AdvantageResult): void {
  const { advantages, weights, groupMean, groupStd, active, accuracy } = result;
  assert.equal(weights.length, advantages.length);
  assert.equal(groupStd.length, groupMean.length);
  assert.equal(active.length, groupMean.length);
  assert.equal(typeof accuracy, 'number');
}

function checkLoss(result: PolicyResult | LogitsResult, shape: Fields): number {
  assert.equal(typeof result.loss, 'number');
  assert.ok(Object.values(result.metrics).every((value) => typeof value === 'number'));
  if (result.advantage) {
    checkAdvantages(result.advantage);
    assert.equal(result.advantage.advantages.length, shape.sequences);
  }
  return Number(shape.sequences) * Number(shape.length);
}

/** The call's arguments: a valid draw, then damaged. */
function argumentsOf(draw: Arguments, device: string, damages: readonly Damage[]): Arguments {
  const args = [...draw.slice(0, -1), { ...(draw.at(-1) as object), device }];
  apply(args, damages);
  return args;
}

function drawRewards(seed: number): Arguments {
  const random = seeded(seed);
  const size = random.integer(1, 4);
  const rewards = Array.from({ length: size * random.integer(1, 5) }, () => random.pick([0, 1, 0.5, NaN]));
  const form = random.pick([rewards, Float32Array.from(rewards), Float64Array.from(rewards)]);
  return [form, { groupSize: size, hadw: { anchor: 0.5, scale: 1.3 }, epsilon: 1e-4, ddof: 1 }, {}];
}

for (const { name: device, skip } of testedDevices('reference', 'cpu', 'cuda')) {
  describe(`random calls on ${device}`, { skip }, () => {
    test('computeAdvantages', () => {
      const property = fc.property(call, ({ seed, damages }) => {
        const args = argumentsOf(drawRewards(seed), device, damages);
        const result = attempt(() => computeAdvantages(...(args as Parameters<typeof computeAdvantages>)));
        if (result) checkAdvantages(result);
        if (damages.length === 0) assert.ok(result);
      });
      fc.assert(property, parameters);
    });

    test('policyLoss', () => {
      const property = fc.property(call, ({ seed, damages }) => {
        const { input, config, options } = drawPolicy(seeded(seed));
        const args = argumentsOf([{ ...input }, structuredClone(config), options], device, damages);
        const result = attempt(() => policyLoss(...(args as Parameters<typeof policyLoss>)));
        if (damages.length === 0) assert.ok(result);
        if (!result) return;
        const tokens = checkLoss(result, (args[0] as Fields).shape as Fields);
        const wanted = (args[2] as Fields | undefined)?.gradient !== false;
        assert.equal(result.gradLogProbs?.length, wanted ? tokens : undefined);
      });
      fc.assert(property, parameters);
    });

    test('logitsLoss', () => {
      const property = fc.property(call, ({ seed, damages }) => {
        const { input, config, options } = drawLogits(seeded(seed));
        const args = argumentsOf([{ ...input }, structuredClone(config), options], device, damages);
        const result = attempt(() => logitsLoss(...(args as Parameters<typeof logitsLoss>)));
        if (damages.length === 0) assert.ok(result);
        if (!result) return;
        const shape = (args[0] as Fields).shape as Fields;
        const tokens = checkLoss(result, shape);
        assert.equal(result.logProbs.length, tokens);
        assert.equal(result.entropies.length, tokens);
        const wanted = (args[2] as Fields | undefined)?.gradient !== false;
        const stride = Number(shape.rowStride ?? shape.vocab);
        assert.equal(result.gradLogits?.length, wanted ? tokens * stride : undefined);
      });
      fc.assert(property, parameters);
    });

    test('logitsBackward', () => {
      const property = fc.property(call, ({ seed, damages }) => {
        const options = seed % 3 === 0 ? { inPlace: true } : {};
        const args = argumentsOf([{ ...drawBackward(seed) }, options], device, damages);
        const result = attempt(() => logitsBackward(...(args as Parameters<typeof logitsBackward>)));
        if (damages.length === 0) assert.ok(result);
        if (!result) return;
        const { rows, vocab, rowStride = vocab } = (args[0] as Fields).shape as Fields;
        assert.equal(result.gradLogits.length, Number(rows) * Number(rowStride));
        assert.ok(result.metrics.nonFinite >= 0);
      });
      fc.assert(property, parameters);
    });

    test('linearLoss', { skip: device === 'cuda' && 'CUDA has no matrix products' }, () => {
      const property = fc.property(call, ({ seed, damages }) => {
        const { config } = drawPolicy(seeded(seed));
        const args = argumentsOf([{ ...drawLinear(seed) }, structuredClone(config), {}], device, damages);
        const result = attempt(() => linearLoss(...(args as Parameters<typeof linearLoss>)));
        if (damages.length === 0) assert.ok(result);
        if (!result) return;
        const shape = (args[0] as Fields).shape as Fields;
        const tokens = checkLoss(result, shape);
        assert.equal(result.logProbs.length, tokens);
        if (result.gradHidden) assert.equal(result.gradHidden.length, tokens * Number(shape.hiddenSize));
        if (result.gradUnembedding) {
          assert.equal(result.gradUnembedding.length, Number(shape.vocab) * Number(shape.hiddenSize));
        }
      });
      // On the reference device a call of these sizes takes a millisecond.
      fc.assert(property, { ...parameters, numRuns: Math.ceil(parameters.numRuns / 4) });
    });
  });
}

function drawBackward(seed: number): LogitsBackwardInput {
  const random = seeded(seed);
  const { input } = drawLogits(random);
  const { logits, dtype, tokens, temperature, mask } = input;
  const { sequences, length, ...columns } = input.shape;
  const rows = sequences * length;
  const gradient = () => fill(rows, () => random.pick([0, random.normal()]));
  const gradients = { gradLogProbs: gradient(), ...(random.chance(0.5) && { gradEntropies: gradient() }) };
  return { shape: { rows, ...columns }, logits, dtype, tokens, temperature, mask, ...gradients };
}

function drawLinear(seed: number): LinearInput {
  const random = seeded(seed);
  const { input } = drawPolicy(random);
  const { logProbs, ...tokens } = input;
  const [hiddenSize, vocab] = [random.integer(1, 5), random.integer(1, 9)];
  return {
    ...tokens,
    shape: { ...input.shape, hiddenSize, vocab },
    hidden: fill(logProbs.length * hiddenSize, () => random.normal()),
    unembedding: fill(vocab * hiddenSize, () => random.normal()),
    tokens: Int32Array.from(logProbs, () => random.integer(0, vocab - 1)),
    ...(random.chance(0.3) && { softCap: 2 }),
  };
}

// Only src/loss calls the addon, with plans that it has checked. All other calls must get an error.
const loaded = loadAddon();
describe('random plans to the addon', { skip: loaded.addon ? false : loaded.reason }, () => {
  const { cpu } = loaded.addon ?? ({ cpu: {} } as { cpu: Record<string, never> });

  const names = ['computeAdvantages', 'policyLoss', 'logitsLoss', 'logitsBackward'] as const;

  function plans(seed: number, which: number): [name: (typeof names)[number], Arguments] {
    if (which === 0) {
      const [rewards, config] = drawRewards(seed);
      const { plan, output } = planAdvantages(rewards, config);
      return ['computeAdvantages', [plan, output]];
    }
    if (which === 1) {
      const { input, config, options } = drawPolicy(seeded(seed));
      const entropies = seed % 2 === 0 ? new Float32Array(input.logProbs.length).fill(1) : undefined;
      const entropy = entropies && { coefficient: 0.1, topQuantile: 0.5 };
      return ['policyLoss', [planPolicy({ ...input, entropies }, { ...config, ...(entropy && { entropy }) }, options)]];
    }
    if (which === 2) return ['logitsBackward', [planLogitsBackward(drawBackward(seed))]];
    const { input, config, options } = drawLogits(seeded(seed));
    return ['logitsLoss', [planLogits(input, config, options)]];
  }

  test('return a result or throw', () => {
    const property = fc.property(call, fc.nat(3), ({ seed, damages }, which) => {
      const [name, args] = plans(seed, which);
      apply(args, damages);
      try {
        assert.equal(typeof (cpu[name] as (...args: Arguments) => unknown)(...args), 'object');
      } catch (error) {
        assert.ok(damages.length > 0 && error instanceof Error, String(error));
        assert.ok(error instanceof Sentinel || /^[a-zA-Z.]+(\[\d+\])?: expected /.test(error.message), error.message);
      }
    });
    fc.assert(property, parameters);
  });

  test('no arguments, and arguments that are not objects, throw', () => {
    for (const name of names) {
      const method = cpu[name] as (...args: Arguments) => unknown;
      assert.throws(() => method(), { name: 'TypeError', message: /^(plan|output): expected an object$/ });
      for (const kind of hostileKinds) {
        const value = hostile(kind, 3);
        assert.throws(() => method(value, value), Error, kind);
      }
    }
  });
});
