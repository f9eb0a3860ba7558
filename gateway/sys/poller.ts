/**
 * Readiness of raw file descriptors on the main thread, without blocking it: epoll_wait runs on a thread of koffi's, one call at a time;
 * descriptors are armed once for each event, so nothing is reported twice (epoll(7), EPOLLONESHOT).
 */
import { Arena } from './arena.ts'
import { makeEventFd, signalEventFd } from './eventfd.ts'
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLL_EVENT,
  EPOLLIN,
  EPOLLONESHOT,
} from './layouts.ts'
import { check, close, epollControl, epollCreate, epollWaitAsync } from './libc.ts'
import { scratch } from './scratch.ts'

const MOST = 64

export class Poller {
  readonly #fd = check('epoll_create1', epollCreate(EPOLL_CLOEXEC))
  readonly #end = makeEventFd()
  readonly #arena = new Arena(65536)
  readonly #events = this.#arena.allocate(MOST * EPOLL_EVENT.size)
  readonly #callbacks = new Map<number, () => void>()
  #closed = false
  #waiting = false

  constructor() {
    this.#control(EPOLL_CTL_ADD, this.#end, EPOLLIN)
  }

  /** `onReadable` is called once for each time the descriptor has something, and must take all of it. */
  add(fd: number, onReadable: () => void): void {
    this.#callbacks.set(fd, onReadable)
    this.#control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT)
    if (!this.#waiting) this.#wait()
  }

  /** Call before the descriptor is closed. */
  remove(fd: number): void {
    if (this.#callbacks.delete(fd)) this.#control(EPOLL_CTL_DEL, fd, 0)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#callbacks.clear()
    signalEventFd(this.#end)
    if (!this.#waiting) this.#closeAll()
  }

  #closeAll(): void {
    close(this.#fd)
    close(this.#end)
  }

  #control(operation: number, fd: number, events: number): number {
    const { view, base } = scratch()
    view.setUint32(128, events, true)
    view.setInt32(128 + EPOLL_EVENT.data, fd, true)
    view.setInt32(128 + EPOLL_EVENT.data + 4, 0, true)
    return epollControl(this.#fd, operation, fd, base + 128)
  }

  #wait(): void {
    this.#waiting = true
    epollWaitAsync(this.#fd, this.#arena.address(this.#events), MOST, count => this.#ready(count))
  }

  #ready(count: number): void {
    this.#waiting = false
    if (this.#closed) return this.#closeAll()
    const { view } = this.#arena
    // callbacks may add descriptors: they are armed in time for the wait below, and there is only ever one wait
    this.#waiting = true
    for (let i = 0; i < count; i++) {
      const fd = view.getInt32(this.#events + i * EPOLL_EVENT.size + EPOLL_EVENT.data, true)
      this.#callbacks.get(fd)?.()
      if (this.#callbacks.has(fd)) this.#control(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT)
    }
    this.#waiting = false
    if (this.#closed) return this.#closeAll()
    this.#wait()
  }
}
