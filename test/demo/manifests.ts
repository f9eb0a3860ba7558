/**
 * The folder of manifests of one network, and what happens in it: a line for each thing that a person would look for.
 *
 *   web.shop.example.com published: AA 198.51.100.1 + 8a3f-0-812
 *   chat.shop.example.com moved from 10.1.0.20 to 10.1.0.30, still + 95-0-c81
 *   shop/talk is not published: NameConflict: chat.shop.example.com belongs to the older IprefService shop/chat
 *   chat.yaml:8:14 spec.target.address: …
 *
 * Reads the folder as operator and gateway do, and writes nothing but the files themselves.
 */
import { cpSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import type { Condition, IprefGateway, IprefPeer, IprefService, ServiceMapping } from '../../resources/kinds.ts'
import type { Change, Watched } from '../../resources/store.ts'

export class ManifestFolder {
  readonly folder: string
  readonly #store: DirectoryStore
  readonly #print: (line: string) => void
  #services!: Watched<'IprefService'>
  #gateways!: Watched<'IprefGateway'>
  #problems = new Set<string>()
  /** all that was told so far */
  readonly lines: string[] = []

  /** `from`: copied to `folder`, so that people edit the copy. */
  static async open(from: string, folder: string, print: (line: string) => void): Promise<ManifestFolder> {
    cpSync(from, folder, { recursive: true })
    let opened: ManifestFolder | undefined
    const onProblems = (problems: readonly string[]) => {
      if (opened) opened.#mistakes(problems)
    }
    const store = await DirectoryStore.open(folder, { fieldManager: 'demo', onProblems })
    opened = new ManifestFolder(folder, store, print)
    await opened.#watch()
    return opened
  }

  private constructor(folder: string, store: DirectoryStore, print: (line: string) => void) {
    this.folder = folder
    this.#store = store
    this.#print = print
  }

  async #watch(): Promise<void> {
    this.#gateways = await this.#store.watch('IprefGateway', {}, { onChange: () => {} })
    const contexts = () => contextsOf(this.#gateways.all())
    this.#services = await this.#store.watch(
      'IprefService',
      {},
      { onChange: change => this.#say(newsOfService(change, contexts())) },
    )
    await this.#store.watch('IprefPeer', {}, { onChange: change => this.#say(newsOfPeer(change)) })
  }

  #mistakes(problems: readonly string[]): void {
    this.#say(problems.filter(problem => !this.#problems.has(problem)))
    if (problems.length === 0) this.#say(['no mistakes any more'])
    this.#problems = new Set(problems)
  }

  #say(lines: readonly string[]): void {
    for (const line of lines) {
      this.lines.push(line)
      this.#print(line)
    }
  }

  service(namespace: string, name: string): IprefService | undefined {
    return this.#services.get({ namespace, name })
  }

  isReady(namespace: string, name: string): boolean {
    return conditionOf(this.service(namespace, name), 'Ready')?.status === 'True'
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.folder, file), text)
  }

  remove(file: string): void {
    rmSync(join(this.folder, file))
  }

  close(): Promise<void> {
    return this.#store.close()
  }
}

function contextsOf(gateways: Iterable<IprefGateway>): string[] {
  return [...gateways].flatMap(({ spec }) => spec.publicAddresses ?? [])
}

/** What is to be said of a change. Pure. */
export function newsOfService({ before, now }: Change<'IprefService'>, contexts: readonly string[]): string[] {
  if (!now) return [`${shownName(before!)} is withdrawn`]
  const name = shownName(now)
  const [wasReady, ready] = [conditionOf(before, 'Ready'), conditionOf(now, 'Ready')]
  if (now.metadata.deletionTimestamp !== undefined) {
    if (before?.metadata.deletionTimestamp === undefined) return [`${name} goes: its records first, then its mapping`]
    const isGone = now.status?.withdrawnAt !== undefined && before.status?.withdrawnAt === undefined
    return isGone ? [`${name}: the records are gone, and the mapping is when nobody can remember them`] : []
  }
  const lines = movesOf(before?.status?.mappings ?? [], now.status?.mappings ?? []).map(move => `${name} ${move}`)
  if (ready?.status === 'True' && wasReady?.status !== 'True') lines.push(`${name} published: ${aaOf(now, contexts)}`)
  const refusal = refusalOf(now)
  if (refusal !== undefined && refusal !== refusalOf(before)) lines.push(`${keyOf(now)} is not published: ${refusal}`)
  return lines
}

function newsOfPeer({ before, now }: Change<'IprefPeer'>): string[] {
  if (!now) return [`peer ${before!.metadata.name} is gone`]
  const name = `peer ${now.metadata.name}`
  const [wasReady, ready] = [conditionOf(before, 'Ready'), conditionOf(now, 'Ready')]
  if (ready?.status === 'True' && wasReady?.status !== 'True') return [`${name} is reached`]
  const refusal = refusalOf(now)
  if (refusal !== undefined && refusal !== refusalOf(before)) return [`${name}: ${refusal}`]
  return ready?.status === 'False' && wasReady?.status === 'True' ? [`${name}: ${ready.message}`] : []
}

function movesOf(before: readonly ServiceMapping[], now: readonly ServiceMapping[]): string[] {
  return now.flatMap(({ slot, family, address, reference }) => {
    const was = before.find(one => one.slot === slot && one.family === family)
    if (!was || was.address === address) return []
    const kept = was.reference === reference ? `still + ${reference}` : `now + ${reference}, was + ${was.reference}`
    return [`moved from ${was.address} to ${address}, ${kept}`]
  })
}

function refusalOf(object: IprefService | IprefPeer | undefined): string | undefined {
  for (const type of ['Accepted', 'Resolved']) {
    const condition = conditionOf(object, type)
    if (condition?.status === 'False') return `${condition.reason}: ${condition.message}`
  }
  return undefined
}

function aaOf({ status }: IprefService, [context = '?']: readonly string[]): string {
  return (status?.mappings ?? []).map(({ reference }) => `AA ${context} + ${reference}`).join(', ')
}

function conditionOf(object: IprefService | IprefPeer | undefined, type: string): Condition | undefined {
  return object?.status?.conditions?.find(condition => condition.type === type)
}

function shownName(service: IprefService): string {
  return service.status?.publicName ?? keyOf(service)
}

function keyOf({ metadata }: IprefService): string {
  return `${metadata.namespace}/${metadata.name}`
}
