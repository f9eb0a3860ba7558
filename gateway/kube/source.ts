/**
 * The gateway's side of the cluster: objects ──► what is in force here ──► a report in the status of our own IprefGateway.
 *
 *   file of the last state ──► in force at once
 *   watches: IprefService, IprefPeer, ConfigMap ipref-network, our IprefGateway ──► (all listed) ──► wantedOf ──► gateway ──► report, Lease
 *
 * API server away: nothing changes, and it goes on. Nothing of the cluster is written here but our own IprefGateway's status and our own Lease.
 * Owner of the assertions `crd`, of the policy, and of the named peers. Main thread.
 */
import { API_VERSION, type IprefGateway, type RefusedMapping } from '../../resources/kinds.ts'
import { NETWORK_KEY, NETWORK_NAME, type Network, type NetworkGateway, parseNetwork } from '../../resources/network.ts'
import { type ResourceStore, StoreError, type Watched } from '../../resources/store.ts'
import { compareVersions, versionOfMappings } from '../../resources/view.ts'
import type { Clock } from '../../runtime/clock.ts'
import type { Logger } from '../../runtime/log.ts'
import type { Assertion, Problem } from '../mapper/assertions.ts'
import type { NamedPeer } from '../peers/peers.ts'
import type { Policy } from '../plane/policyTable.ts'
import { type Carried, type Domain, refusedOf, type Wanted, wantedOf } from './assertions.ts'
import { type Observation, reportOf } from './report.ts'
import { type ClusterState, SavedState } from './savedState.ts'

const SETTLE_MS = 20
const LEASE_MS = 10_000
const LEASE_S = 40
const REPORT_MS = 1000
const REPORT_PER_GATEWAY_MS = 20
const LOOK_MS = 1000
/** for the last word to an API server that may be away */
const GIVE_UP_MS = 2000

export interface KubeSettings {
  /** of our IprefGateway: the name of the node */
  name: string
  /** where ipref-network and the Leases are */
  namespace: string
  stateFile: string
  tunnelFamilies: readonly (4 | 6)[]
  /** Made if it is not there: for gateways without a node. */
  own?: IprefGateway['spec']
}

export interface KubePorts {
  store: ResourceStore
  clock: Clock
  log: Logger
  random(): number
  /** Puts the set of owner `crd` in force; all problems of that owner. */
  setAssertions(assertions: readonly Assertion[]): Promise<readonly Problem[]>
  /** false: more entries than there is room for. */
  setPolicy(policy: Policy): boolean
  setPeers(peers: readonly NamedPeer[]): void
  /** Slices, node network; `self`: undefined when we are not among the gateways. */
  setNetwork(network: Network, self: NetworkGateway | undefined, carried: readonly Carried[]): void
  setDomains(domains: readonly Domain[]): void
  observe(): Observation
  /** Our IprefGateway is being deleted: the node is to be left as it was. */
  onReleased(): void
}

export class KubeSource {
  readonly #settings: KubeSettings
  readonly #ports: KubePorts
  readonly #log: Logger
  readonly #saved: SavedState
  #services: Watched<'IprefService'> | undefined
  #peers: Watched<'IprefPeer'> | undefined
  #networks: Watched<'ConfigMap'> | undefined
  #gateways: Watched<'IprefGateway'> | undefined
  #network: Network | undefined
  #refused: RefusedMapping[] = []
  /** IprefServices up to here are in force */
  #inForce: string | undefined
  #awaited: string | undefined
  #reportedAt = Number.NEGATIVE_INFINITY
  #isLive = false
  #stopped = false
  #cancelApply: (() => void) | undefined
  #cancelLook: (() => void) | undefined
  #cancelLease: (() => void) | undefined
  #applying: Promise<void> = Promise.resolve()
  readonly #troubles = new Map<string, string>()
  #problem: string | undefined

  constructor(settings: KubeSettings, ports: KubePorts) {
    this.#settings = settings
    this.#ports = ports
    this.#log = ports.log.child({ component: 'kube' })
    this.#saved = new SavedState(settings.stateFile)
  }

  /** What was in force when the gateway ended, read again: before packets flow. */
  async restore(): Promise<void> {
    const { state, problem } = this.#saved.read()
    if (problem) this.#log.warn(problem)
    if (!state) return
    this.#network = state.network
    await this.#enforce(state)
    this.#log.info(
      { services: state.services.length, peers: state.peers.length },
      'going on with what the cluster said last',
    )
  }

  /** Does not wait for the cluster. */
  start(): void {
    void this.#watchAll().catch(error => {
      this.#problem = (error as Error).message
      this.#log.error({ error: this.#problem }, 'the objects of the cluster cannot be watched')
      if (!this.#stopped) this.#cancelLook = this.#ports.clock.after(LEASE_MS, () => this.start())
    })
  }

  /** Why what is in force may be behind; empty: it follows the cluster. */
  get problems(): string[] {
    const troubles = [...this.#troubles].map(([kind, problem]) => `${kind}: ${problem}`)
    if (this.#problem !== undefined) return [this.#problem, ...troubles]
    return this.#isLive ? troubles : ['waiting for the cluster to list its objects', ...troubles]
  }

  get network(): Network | undefined {
    return this.#network
  }

  async #watchAll(): Promise<void> {
    const { store } = this.#ports
    const { name, namespace } = this.#settings
    const events = (kind: string) => ({
      onChange: () => this.#soon(),
      onTrouble: (problem: string | undefined) => this.#trouble(kind, problem),
    })
    const byName = (of: string) => ({ fieldSelector: `metadata.name=${of}` })
    this.#networks ??= await store.watch('ConfigMap', { namespace, ...byName(NETWORK_NAME) }, events('ipref-network'))
    this.#peers ??= await store.watch('IprefPeer', {}, events('IprefPeer'))
    this.#services ??= await store.watch('IprefService', {}, events('IprefService'))
    this.#gateways ??= await store.watch('IprefGateway', byName(name), events('IprefGateway'))
    this.#problem = undefined
    this.#isLive = true
    if (this.#stopped) return
    await this.#makeOwn()
    this.#renewLease()
    this.#soon()
    this.#look()
  }

  #trouble(kind: string, problem: string | undefined): void {
    if (problem === undefined) {
      if (this.#troubles.delete(kind)) this.#log.info({ kind }, 'the view follows again')
      return
    }
    if (this.#troubles.get(kind) !== problem)
      this.#log.warn({ kind }, `${problem}; what the cluster said last stays in force`)
    this.#troubles.set(kind, problem)
  }

  async #makeOwn(): Promise<void> {
    const { name, own } = this.#settings
    if (!own || this.#gateways!.get({ name })) return
    const object = { apiVersion: API_VERSION, kind: 'IprefGateway' as const, metadata: { name }, spec: own }
    await this.#ports.store.create('IprefGateway', object).catch(error => {
      if (!(error instanceof StoreError && error.code === 'AlreadyExists')) throw error
    })
  }

  // ---- in force

  #soon(): void {
    if (!this.#isLive || this.#stopped || this.#cancelApply) return
    this.#cancelApply = this.#ports.clock.after(SETTLE_MS, () => {
      this.#cancelApply = undefined
      this.#applying = this.#applying
        .then(() => this.#apply())
        .catch(error => {
          this.#log.error({ error: (error as Error).message }, 'what the cluster says could not be put in force')
        })
    })
  }

  async #apply(): Promise<void> {
    if (this.#stopped) return
    if (this.#own()?.metadata.deletionTimestamp !== undefined) return this.#ports.onReleased()
    const network = this.#readNetwork()
    if (!network) return
    this.#network = network
    const version = this.#services!.resourceVersion
    const state = { network, services: [...this.#services!.all()], peers: [...this.#peers!.all()] }
    await this.#enforce(state)
    this.#inForce = version
    this.#awaited = latest(state.services.map(versionOfMappings))
    try {
      this.#saved.write(state)
    } catch (error) {
      this.#log.error(
        { error: (error as Error).message },
        'the state for a restart without the cluster cannot be written',
      )
    }
    await this.#report()
  }

  #own(): IprefGateway | undefined {
    return this.#gateways?.get({ name: this.#settings.name })
  }

  #readNetwork(): Network | undefined {
    const { namespace } = this.#settings
    const text = this.#networks!.get({ namespace, name: NETWORK_NAME })?.data?.[NETWORK_KEY]
    if (text === undefined) {
      this.#trouble('ipref-network', `ConfigMap ${namespace}/${NETWORK_NAME} is not there: the operator makes it`)
      return this.#network
    }
    const parsed = parseNetwork(text)
    if (typeof parsed === 'string') {
      this.#trouble('ipref-network', `ConfigMap ${namespace}/${NETWORK_NAME}, ${NETWORK_KEY}: ${parsed}`)
      return this.#network
    }
    this.#trouble('ipref-network', undefined)
    return parsed
  }

  async #enforce({ network, services, peers }: ClusterState): Promise<void> {
    const { name: self, tunnelFamilies } = this.#settings
    const ports = this.#ports
    const wanted = wantedOf({ self, services, peers, network, tunnelFamilies })
    ports.setNetwork(
      network,
      network.gateways.find(gateway => gateway.name === self),
      wanted.carried,
    )
    ports.setPeers(wanted.peers)
    // closed before it is opened: the policy is there before a host that it is about is
    if (!ports.setPolicy(wanted.policy)) this.#refuseAll(wanted)
    const problems = await ports.setAssertions(wanted.assertions)
    ports.setDomains(wanted.domains)
    this.#refused = refusedOf(wanted, problems, services)
  }

  // a policy that does not fit would leave somebody open who shall be closed
  #refuseAll(wanted: Wanted): void {
    this.#log.error(
      { peers: wanted.policy.peers.length },
      'the inbound policy has more entries than there is room for: everybody is denied',
    )
    this.#ports.setPolicy({ others: { allow: false, except: [] }, peers: [] })
  }

  // ---- reports

  #look(): void {
    if (this.#stopped) return
    const { clock, random } = this.#ports
    this.#cancelLook = clock.after(LOOK_MS * (0.75 + random() / 2), () => {
      this.#applying = this.#applying.then(() => this.#report()).catch(() => {})
      this.#look()
    })
  }

  async #report(): Promise<void> {
    const { store, clock, observe } = this.#ports
    const object = this.#own()
    if (!object || this.#stopped) return
    const now = clock.now()
    const interval = Math.max(REPORT_MS, REPORT_PER_GATEWAY_MS * (this.#network?.gateways.length ?? 0))
    if (now - this.#reportedAt < interval) return
    const status = reportOf({
      object,
      observation: observe(),
      refused: this.#refused,
      inForce: this.#inForce,
      awaited: this.#awaited,
      now,
      reportedAt: this.#reportedAt,
    })
    if (!status) return
    try {
      await store.updateStatus('IprefGateway', { ...object, status })
      this.#reportedAt = now
    } catch (error) {
      // the object changed meanwhile, or the API server is away: the next look says it
      if (!(error instanceof StoreError)) throw error
      this.#log.debug({ error: error.message }, 'the report could not be written')
    }
  }

  #renewLease(): void {
    if (this.#stopped) return
    const { clock, random } = this.#ports
    void this.#writeLease(this.#settings.name).catch(error =>
      this.#log.debug({ error: (error as Error).message }, 'the Lease could not be renewed'),
    )
    this.#cancelLease = clock.after(LEASE_MS * (0.9 + random() / 5), () => this.#renewLease())
  }

  async #writeLease(holderIdentity: string): Promise<void> {
    const { store, clock } = this.#ports
    const key = { namespace: this.#settings.namespace, name: `ipref-gateway-${this.#settings.name}` }
    const renewTime = new Date(clock.now()).toISOString().replace('Z', '000Z')
    const spec = { holderIdentity, leaseDurationSeconds: LEASE_S, renewTime }
    const known = await store.get('Lease', key)
    if (known) await store.update('Lease', { ...known, spec })
    else if (holderIdentity !== '')
      await store.create('Lease', { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: key, spec })
  }

  /** What is in force stays; the operator need not wait for us any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#cancelApply?.()
    this.#cancelLook?.()
    this.#cancelLease?.()
    await this.#applying
    for (const view of [this.#services, this.#peers, this.#networks, this.#gateways]) view?.stop()
    if (!this.#isLive || this.#troubles.size > 0) return
    const given = this.#writeLease('').catch(() => {})
    await new Promise<void>(resolve => {
      // a timer that is left would keep the process from its end
      const cancel = this.#ports.clock.after(GIVE_UP_MS, resolve)
      void given.then(() => {
        cancel()
        resolve()
      })
    })
  }
}

function latest(versions: readonly (string | undefined)[]): string | undefined {
  let most: string | undefined
  for (const version of versions)
    if (version !== undefined && (most === undefined || compareVersions(version, most) > 0)) most = version
  return most
}
