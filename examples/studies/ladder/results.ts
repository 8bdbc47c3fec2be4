// The numbers of the study, as in bench/results/hadw-ladder.json.

import type { AdvantageScale, StudyConfiguration } from './configuration.js';
import {
  bestScales,
  type Expectations,
  errorAt,
  expectations,
  levelOf,
  mixtureExpectations,
  nearerScales,
  trueAdvantages,
} from './exact.js';
import { type Simulation, simulate } from './fixed-policy.js';
import { drawUniforms, type LearningRun, learn, stepsOf } from './learning.js';
import { type ComparedMethod, methodsOf } from './methods.js';
import { type Interval, intervalOf, type Mean, meanOf, medianOf, sum } from './statistics.js';

/** One prompt, exactly. HA-DW's numbers are at λ = 1, with the mixture's true level as the anchor. */
export interface Cell {
  p: number;
  groupSize: number;
  scale: AdvantageScale;
  truth: { right: number; wrong: number };
  /** Without HA-DW. */
  plain: Expectations & { error: number; best: ReturnType<typeof bestScales> };
  /** By mixture, whose level is the anchor; `errors` are for the λ of the configuration, in their order. */
  hadw: Record<string, WeightedCell>;
}

export interface WeightedCell extends Expectations {
  errors: number[];
  best: ReturnType<typeof bestScales>;
  bestError: number;
  nearer: ReturnType<typeof nearerScales>;
}

/** A batch, exactly. */
export interface Batch {
  mixture: string;
  groupSize: number;
  scale: AdvantageScale;
  plain: ReturnType<typeof mixtureExpectations>;
  plainBest: ReturnType<typeof mixtureExpectations>;
  /** For each λ of the configuration. */
  hadw: ReturnType<typeof mixtureExpectations>[];
  hadwBest: ReturnType<typeof mixtureExpectations>;
}

export interface Learned extends ComparedMethod {
  steps: number;
  /** Mean over the run, and value at its end, of the mean true success over all prompts. */
  average: Mean;
  final: Mean;
  /** The former for each rung. */
  rungAverages: Mean[];
  /** Samples of each prompt until a rung's mean success is first at least a half, for the rungs that start below it. */
  toHalf: {
    p: number;
    reached: number;
    /** Median over seeds, counting seeds that never reached it as the last; null if the median one did not. */
    median: number | null;
  }[];
  anchorError: Mean | null;
  /** Means over seeds at equal distances in samples, including the start: of all prompts, and of each rung. */
  curve: number[];
  rungCurves: number[][];
  differences: Difference[];
}

/** A method minus another, by seed, of `average` and of `rungAverages`. */
export interface Difference extends Interval {
  with: string;
  rungs: Mean[];
}

export interface StudyResults {
  configuration: StudyConfiguration;
  levels: Record<string, number>;
  cells: Cell[];
  batches: Batch[];
  simulations: Simulation[];
  learning: Learned[];
}

export function runStudy(configuration: StudyConfiguration, progress: (text: string) => void): StudyResults {
  const { mixtures, rungs } = configuration;
  progress('exact expectations');
  const levels = Object.fromEntries(
    Object.entries(mixtures).map(([name, prompts]) => [name, levelOf({ rungs, prompts })]),
  );
  const exact = { cells: cellsOf(configuration, levels), batches: batchesOf(configuration, levels) };
  progress('simulation with a fixed policy');
  const simulations = simulate(configuration);
  return rounded({ configuration, levels, ...exact, simulations, learning: learnAll(configuration, progress) });
}

function cellsOf(config: StudyConfiguration, levels: Record<string, number>): Cell[] {
  return config.advantageScales.flatMap((scale) =>
    config.groupSizes.flatMap((groupSize) =>
      config.rungs.map((p) => {
        const situation = { p, groupSize, scale };
        const plain = expectations(situation);
        return {
          ...situation,
          truth: trueAdvantages(p, scale),
          plain: { ...plain, error: errorAt(plain, 1), best: bestScales(situation) },
          hadw: Object.fromEntries(
            Object.entries(levels).map(([name, anchor]) => {
              const weighted = expectations({ ...situation, anchor });
              const best = bestScales({ ...situation, anchor });
              const cell: WeightedCell = {
                ...weighted,
                errors: config.hadwScales.map((lambda) => errorAt(weighted, lambda)),
                best,
                bestError: errorAt(weighted, best.error),
                nearer: nearerScales({ ...situation, anchor }),
              };
              return [name, cell];
            }),
          ),
        };
      }),
    ),
  );
}

function batchesOf(config: StudyConfiguration, levels: Record<string, number>): Batch[] {
  return config.advantageScales.flatMap((scale) =>
    config.groupSizes.flatMap((groupSize) =>
      Object.entries(config.mixtures).map(([name, prompts]) => {
        const mixture = { rungs: config.rungs, prompts };
        const plain = { groupSize, scale };
        const hadw = { ...plain, anchor: levels[name] };
        return {
          mixture: name,
          ...plain,
          plain: mixtureExpectations(mixture, plain, 1),
          plainBest: mixtureExpectations(mixture, plain),
          hadw: config.hadwScales.map((lambda) => mixtureExpectations(mixture, hadw, lambda)),
          hadwBest: mixtureExpectations(mixture, hadw),
        };
      }),
    ),
  );
}

function learnAll(config: StudyConfiguration, progress: (text: string) => void): Learned[] {
  const methods = methodsOf(config);
  const runs = new Map<string, LearningRun[]>(methods.map(({ name }) => [name, []]));
  const prompts = Math.max(...Object.values(config.mixtures).map((counts) => sum(counts, (n) => n)));
  const groupSizes = [...new Set(methods.map((method) => method.groupSize))];
  for (let seed = 1; seed <= config.learning.seeds; seed++) {
    progress(`learning, seed ${seed} of ${config.learning.seeds}`);
    for (const groupSize of groupSizes) {
      const own = methods.filter((method) => method.groupSize === groupSize);
      const steps = Math.max(...own.map((method) => stepsOf(config, method)));
      const uniforms = drawUniforms(seed, steps, prompts, groupSize);
      for (const method of own) runs.get(method.name)!.push(learn(config, method, seed, uniforms));
    }
  }
  return methods.map((method) => summarize(config, method, runs));
}

function summarize(
  config: StudyConfiguration,
  method: ComparedMethod,
  runs: ReadonlyMap<string, readonly LearningRun[]>,
): Learned {
  const own = runs.get(method.name)!;
  const steps = stepsOf(config, method);
  const averages = (name: string) => runs.get(name)!.map((run) => averageOf(run.success));
  const rungAverages = (name: string, rung: number) => runs.get(name)!.map((run) => averageOf(run.rungs[rung]));
  const pairs = (a: readonly number[], b: readonly number[]) => a.map((value, i) => value - b[i]);
  const at = Array.from({ length: config.learning.points + 1 }, (_, i) =>
    Math.round((i * steps) / config.learning.points),
  );
  const curveOf = (values: (run: LearningRun) => readonly number[]) =>
    at.map((step) => sum(own, (run) => values(run)[step]) / own.length);
  return {
    ...method,
    steps,
    average: meanOf(averages(method.name)),
    final: meanOf(own.map(({ success }) => success[steps])),
    rungAverages: config.rungs.map((_, rung) => meanOf(rungAverages(method.name, rung))),
    toHalf: config.rungs.flatMap((p, rung) => {
      if (p >= 0.5) return [];
      const first = own.map((run) => run.rungs[rung].findIndex((success) => success >= 0.5));
      const samples = medianOf(first.map((step) => (step < 0 ? Number.POSITIVE_INFINITY : step * method.groupSize)));
      const reached = first.filter((step) => step >= 0).length;
      return { p, reached, median: Number.isFinite(samples) ? samples : null };
    }),
    anchorError: method.hadw ? meanOf(own.map((run) => run.anchorError)) : null,
    curve: curveOf((run) => run.success),
    rungCurves: config.rungs.map((_, rung) => curveOf((run) => run.rungs[rung])),
    differences: method.against.map((other) => ({
      with: other,
      ...intervalOf(pairs(averages(method.name), averages(other))),
      rungs: config.rungs.map((_, rung) => meanOf(pairs(rungAverages(method.name, rung), rungAverages(other, rung)))),
    })),
  };
}

/** Over the steps, by the trapezoidal rule. */
function averageOf(curve: readonly number[]): number {
  const ends = (curve[0] + curve[curve.length - 1]) / 2;
  return (sum(curve, (v) => v) - ends) / (curve.length - 1);
}

/** Rounds results to the digits that are kept, so that printed and drawn values are those in the file. */
function rounded<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, (_, v) => (typeof v === 'number' ? Number(v.toPrecision(5)) : v)));
}

/** The results as a file, in which objects of plain values take one line. */
export function resultsFile(results: StudyResults): string {
  const innermost = /[[{][^[\]{}]*[\]}]/g;
  return `${JSON.stringify(results, null, 1).replace(innermost, (text) => text.replace(/\n\s*/g, ' '))}\n`;
}
