/** `npm run soak`: what takes too long for every run of the tests: 1,000 kills of a mapper under load. */
import { killAgainAndAgain } from '../durability/killing.ts'

const kills = Number(process.argv[2] ?? 1000)
const report = await killAgainAndAgain(kills)
console.log(
  `${report.kills} kills, ${report.acknowledged} mappings acknowledged, ${report.lost.length} lost, ${report.twice.length} given twice`,
)
process.exit(report.lost.length + report.twice.length === 0 ? 0 : 1)
