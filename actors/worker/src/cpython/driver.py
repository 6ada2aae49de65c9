"""The Python inside a jailed CPython: it loads the standard library once, loses the file system, and is copied for each run.

The process that executed this interpreter has dropped ids and entered namespaces; what only works from inside (an empty root
once the library is loaded, copies, the filter) is done here. It speaks the same frames as the worker in Rust.
"""
import sys

CONFIG = __import__("json").loads(sys.argv[1])
sys.argv = ["run.py"]
# Written in Python, it asks `time.time`, which is the run's clock; the one in C asks the machine's.
sys.modules["_datetime"] = None
sys.modules["_zoneinfo"] = None

import ast, asyncio, ctypes, gc, importlib, inspect, json, math, os, random, resource, select, signal, socket, struct, time, types

for name in CONFIG["modules"]:
    try:
        importlib.import_module(name)
    except Exception:
        pass
import encodings.idna, encodings.ascii, encodings.latin_1, encodings.cp1252, encodings.utf_16, encodings.utf_32

MAIN = "run.py"
SOCKET = 3
FRAME_MAX = 16 << 20
SHARE = FRAME_MAX // 2 - (64 << 10)
LIBC = ctypes.PyDLL(None, use_errno=True)
SYNTAX, THROWN, TIMED_OUT, OUT_OF_MEMORY, LIMIT, UNSUPPORTED = range(6)
ENGINE = "cpython " + ".".join(map(str, sys.version_info[:3]))
cpu_time, real_send, real_read = time.process_time, os.write, os.read


# --- The jail, from inside -----------------------------------------------------------------------------------------


def check(result):
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option, argument=0):
    return check(LIBC.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def empty_root():
    """Nothing is mounted any more: not the library either, which is in memory."""
    spot = b"/tmp"
    inert = 2 | 4 | 8  # nosuid, nodev, noexec
    check(LIBC.mount(None, b"/", None, ctypes.c_ulong(1 << 14 | 1 << 18), None))  # recursive, private
    check(LIBC.mount(b"tmpfs", spot, b"tmpfs", ctypes.c_ulong(inert), b"size=4k,nr_inodes=2,mode=0555"))
    os.chdir(spot)
    check(LIBC.syscall(CONFIG["calls"]["pivot_root"], b".", b"."))
    check(LIBC.umount2(b".", 2))
    os.chdir("/")
    check(LIBC.mount(None, b"/", None, ctypes.c_ulong(1 << 5 | 1 << 12 | 1 | inert), None))  # remount, bind, read-only


def sibling():
    """A copy of this process, reaped by whoever started this one; process 1 of its own pid namespace where there are any."""
    flags = 0x8000 | (0x20000000 if CONFIG["namespaces"] else 0) | signal.SIGCHLD
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = LIBC.syscall(CONFIG["calls"]["clone"], ctypes.c_ulong(flags), None, None, None, None)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return -error if pid == -1 else pid


def shut():
    """Capabilities, limits, privileges, death with the parent, the filters: as the worker in Rust does, in its order."""
    prctl(47, 4)  # ambient capabilities: none
    for capability in range(64):
        if LIBC.prctl(24, ctypes.c_ulong(capability), 0, 0, 0) == -1:
            break
    header = struct.pack("Ii", 0x20080522, 0)
    check(LIBC.syscall(CONFIG["calls"]["capset"], header, bytes(24)))
    for name, limit in [("AS", CONFIG["address_space"]), ("STACK", 64 << 20), ("CPU", CONFIG["cpu_s"]), ("NOFILE", SOCKET + 1),
                        ("FSIZE", 0), ("CORE", 0), ("MEMLOCK", 0), ("NPROC", 0)]:
        lower(getattr(resource, "RLIMIT_" + name), limit)
    prctl(38, 1)  # no new privileges
    prctl(1, signal.SIGKILL)  # death with the parent
    prctl(4, 0)  # not dumpable
    signal.signal(signal.SIGSYS, outwards)
    for program in CONFIG["filters"]:
        code = bytes.fromhex(program)
        held = ctypes.create_string_buffer(code, len(code))
        head = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
        check(LIBC.prctl(22, 2, head, 0, 0))


def outwards(*_):
    """The code reached for the network. Nothing was sent; the run ends with this word."""
    send(b"\x06" + varint(CONFIG["calls"]["socket"]))
    os._exit(72)


def lower(which, limit):
    limit = int(limit)
    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(which, (limit, limit))


def order(control):
    """The next worker's socket; none when there will be no more."""
    data, fds, _, _ = socket.recv_fds(control, 1, 1)
    return fds[0] if data and fds else None


def copies():
    """Answers orders; returns in each worker."""
    global BASE
    control = socket.socket(fileno=SOCKET)
    with open("/proc/self/statm") as sizes:
        BASE = int(sizes.read().split()[0]) * resource.getpagesize()
    prctl(1, signal.SIGKILL)
    if CONFIG["namespaces"]:
        empty_root()
    gc.collect()
    gc.freeze()
    control.send(struct.pack("<i", 0))
    while (fd := order(control)) is not None:
        pid = sibling()
        if pid == 0:
            control.detach()
            os.dup2(fd, SOCKET)
            os.close(fd)
            return
        os.close(fd)
        control.send(struct.pack("<i", pid))
    os._exit(0)


# --- Frames --------------------------------------------------------------------------------------------------------


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(value):
    # Lone surrogates are legal in Python and in no other place.
    raw = value.encode("utf-8", "replace")
    return varint(len(raw)) + raw


class Reader:
    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def varint(self):
        number = shift = 0
        while True:
            byte = self.raw[self.at]
            self.at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def bytes(self, count):
        self.at += count
        return self.raw[self.at - count : self.at]

    def text(self):
        return self.bytes(self.varint()).decode()

    def list(self, item):
        return [item() for _ in range(self.varint())]


def send(body):
    raw = struct.pack("<I", len(body)) + body
    view = memoryview(raw)
    while view:
        view = view[real_send(SOCKET, view) :]


def exactly(count):
    parts = []
    while count:
        part = real_read(SOCKET, min(count, 1 << 16))
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive():
    (length,) = struct.unpack("<I", exactly(4))
    if length > FRAME_MAX:
        os._exit(64)
    return Reader(exactly(length))


# --- The host ------------------------------------------------------------------------------------------------------


class Refused(RuntimeError):
    """A call that was refused."""


class Host:
    """The one door: calls, timers and lines go out, answers come in, and the clock moves only with an answer."""

    def __init__(self, job):
        self.job, self.clock, self.calls, self.log_left = job, job["clock_ms"], 0, job["log_bytes"]
        self.open, self.early, self.futures = {}, {}, {}
        self.line, self.sending, self.doom = "", False, None
        self.cpu0, self.heap0 = cpu_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def send(self, body):
        if len(body) > FRAME_MAX:
            self.end(fault(LIMIT, "LimitError", f"one call or log line holds {len(body)} bytes, more than a frame can carry; send less at once"))
        self.sending = True
        send(body)
        self.sending = False
        if self.doom:
            self.end(self.doom)

    def number(self, kind):
        if self.calls >= self.job["calls"]:
            self.end(fault(LIMIT, "LimitError", f"the run made more than {self.job['calls']} calls (timers count); fetch more per call, or raise limits.calls"))
        self.calls += 1
        self.open[self.calls] = kind
        return self.calls

    def call(self, op, params, options):
        self.flush()
        number = self.number("call")
        self.send(b"\x02" + varint(number) + text(op) + text(params) + text(options))
        return number

    def timer(self, after_ms):
        self.flush()
        number = self.number("timer")
        self.send(b"\x03" + varint(number) + varint(max(0, int(after_ms))))
        return number

    def log(self, level, line):
        if self.log_left == 0:
            return
        size = len(line.encode("utf-8", "replace")) + 1
        if size > self.log_left:
            self.log_left = 0
            level, line = "warn", f"console output beyond {self.job['log_bytes']} bytes is dropped; return the value instead"
        else:
            self.log_left -= size
        self.send(b"\x04" + text(level) + text(line))

    def write(self, data):
        *lines, self.line = (self.line + data).split("\n")
        for line in lines:
            self.log("log", line)
        return len(data)

    def flush(self):
        if self.line:
            line, self.line = self.line, ""
            self.log("log", line)

    def next(self):
        """Takes one answer in; its number."""
        frame = receive()
        if frame.varint() != 2:
            os._exit(64)
        number, failed, said, clock = frame.varint(), frame.varint(), frame.text(), frame.varint()
        self.open.pop(number, None)
        self.clock = max(self.clock, clock)
        if number in self.futures:
            future = self.futures.pop(number)
            if not future.cancelled():
                try:
                    future.set_result(answer(failed, said))
                except RuntimeError as error:
                    future.set_exception(error)
        else:
            self.early[number] = (failed, said)
        return number

    def wait(self, number):
        while number not in self.early:
            self.next()
        return answer(*self.early.pop(number))

    def end(self, failure=None, value="null", state=None):
        """Says how the run ended, and ends."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        state = self.job["state"] if state is None else state
        for what, held in [("value", value), ("session state", state)]:
            if len(held) > SHARE:
                failure = fault(LIMIT, "LimitError", f"the {what} has {len(held)} bytes, more than the {SHARE} a run can hand back; store it with a call")
                state = self.job["state"]
        if failure:
            kind, name, message, line, column, stack = failure
            result = b"\x01" + varint(kind) + text(name[:16384]) + text(message[:16384]) + varint(line) + varint(column) + text(stack[:16384])
        else:
            result = b"\x00" + text(value)
        used = varint(int((cpu_time() - self.cpu0) * 1e6)) + varint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.heap0) << 10)
        send(b"\x05" + result + text(state) + used + text(ENGINE))
        os._exit(0)


def fault(kind, name, message, line=0, column=0, stack=""):
    return kind, name, message, line, column, stack


def answer(failed, said):
    if not failed:
        return json.loads(said)
    refusal = json.loads(said)
    hint = refusal.get("try")
    raise Refused(f"{refusal.get('code', '')}: {refusal.get('message', '')}" + (f"; try: {hint}" if hint else ""))


# --- What the code finds -------------------------------------------------------------------------------------------


def plain(value, within=()):
    """As `json.dumps` takes it; with sets as lists, dates in ISO 8601 and objects by their attributes."""
    import collections, dataclasses, datetime, enum

    if value is None or value is ... or isinstance(value, (bool, str)):
        return None if value is ... else value
    if isinstance(value, enum.Enum):
        return plain(value.value, within)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise TypeError(f"the integer {str(value)[:40]} is too large for JSON; use str()")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} cannot be written as JSON")
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("bytes cannot be written as JSON; decode them, or use base64")
    if id(value) in within:
        raise TypeError("a value that contains itself cannot be written as JSON")
    within = (*within, id(value))
    if len(within) > 500:
        raise TypeError("the value nests too deeply to be written as JSON")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(item, within) for name, item in zip(value._fields, value)}
    if isinstance(value, (list, tuple, set, frozenset, collections.deque, range, type({}.keys()), type({}.values()))):
        return [plain(item, within) for item in value]
    if isinstance(value, (dict, types.MappingProxyType)):
        return {key(name): plain(item, within) for name, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), within) for field in dataclasses.fields(value)}
    if type(value).__module__ == "__main__" and hasattr(value, "__dict__") and not callable(value):
        return {name: plain(item, within) for name, item in vars(value).items()}
    return str(value)


def key(name):
    if isinstance(name, str):
        return name
    if isinstance(name, bool):
        return "true" if name else "false"
    if name is None:
        return "null"
    if isinstance(name, (int, float)):
        return str(name)
    raise TypeError(f"the key {name} cannot be written as JSON; keys are strings or numbers")


def dumps(value):
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


class Tool:
    """A tool, or a group of them, by its path."""

    __slots__ = ("_house", "_path")

    def __init__(self, house, path):
        object.__setattr__(self, "_house", house)
        object.__setattr__(self, "_path", path)

    def __setattr__(self, name, value):
        raise AttributeError(f"{self._path}.{name} cannot be set")

    def __getattr__(self, name):
        path = f"{self._path}.{name}"
        if path in self._house.tools or any(known.startswith(path + ".") for known in self._house.tools):
            return Tool(self._house, path)
        near = [known for known in self._house.tools if known.endswith("." + name)] or nearest(path, self._house.tools)
        hint = f"did you mean {' or '.join(near[:3])}?" if near else 'searchTools("…") and readdir("/mcp-servers") show what does'
        raise AttributeError(f"{path} does not exist; {hint}")

    def __call__(self, *args, **kwargs):
        return self._house.host.wait(self._house.ask(self._path, args, kwargs))

    def __repr__(self):
        return f"<{self._path}>"


def nearest(wanted, known):
    import difflib

    return difflib.get_close_matches(wanted, known, 3)


class House:
    """The tools of the job, and the functions that are names of their own."""

    FUNCTIONS = {
        "searchTools": ("tools/search", ["query", "detail"]),
        "readToolDefinition": ("tools/definition", ["path"]),
        "readdir": ("files/list", ["path"]),
        "readFile": ("files/read", ["path"]),
        "results.read": ("results/read", ["handle", "range"]),
    }

    def __init__(self, host, namespaces):
        self.host = host
        self.tools = dict.fromkeys([*self.FUNCTIONS, "callMCPTool"])
        for name, members in namespaces:
            for path, op in members:
                self.tools[f"{name}.{path}"] = op
        self.roots = {path.split(".")[0] for path in self.tools} | {name for name, _ in namespaces}

    def ask(self, path, args, kwargs):
        """Sends a call; its number."""
        options = dumps(kwargs.pop("_options")) if "_options" in kwargs else ""
        params = {name: plain(value) for name, value in kwargs.items()}
        if path in self.FUNCTIONS:
            op, names = self.FUNCTIONS[path]
            params.update(zip(names, map(plain, args)))
            if path == "readdir":
                params.setdefault("path", "/")
        elif path == "callMCPTool":
            if not args:
                raise TypeError('callMCPTool takes the tool\'s path, such as "server/tool"')
            op = operation(str(args[0]))
            params = merged(path, args[1:] or [params.pop("args", None)], params)
        else:
            op = self.tools.get(path)
            if op is None:
                raise TypeError(f"{path} is a group of tools, not a tool")
            params = merged(path, args, params)
        return self.host.call(op, json.dumps(params, ensure_ascii=False, allow_nan=False), options)

    def later(self, function):
        """How an awaited call is made: something to await instead of the value."""
        if not isinstance(function, Tool):
            return function

        def begin(*args, **kwargs):
            number = self.ask(function._path, args, kwargs)
            self.host.futures[number] = future = asyncio.get_running_loop().create_future()
            return future

        return begin


def operation(path):
    return path.removeprefix("/mcp-servers/").removesuffix(".ts").removeprefix("athena/")


def merged(path, args, keywords):
    if len(args) > 1 or (args and args[0] is not None and not isinstance(args[0], dict)):
        raise TypeError(f'{path} takes keyword arguments, such as {path}(query="…"), or one dict')
    return {**(plain(args[0]) if args and args[0] else {}), **keywords}


class Waits:
    """What the event loop takes for a selector: the host is all there is to wait for."""

    def __init__(self, host):
        self.host, self.due = host, {}

    def select(self, timeout=None):
        if timeout == 0:
            return []
        if timeout is not None:
            due = self.host.clock + math.ceil(timeout * 1000)
            if not any(at <= due for at in self.due.values()):
                number = self.host.timer(math.ceil(timeout * 1000))
                self.due[number] = due
        if not self.host.open:
            self.host.end(fault(THROWN, "DeadlockError", "the code awaits something that nothing will ever answer"))
        number = self.host.next()
        if self.due.pop(number, None) is not None:
            self.host.early.pop(number, None)
        return []

    def close(self):
        pass


class Loop(asyncio.base_events.BaseEventLoop):
    def __init__(self, host):
        super().__init__()
        self._host, self._selector = host, Waits(host)

    def time(self):
        # From the start of the run: seconds since 1970 leave a float no room for the resolution.
        return (self._host.clock - self._host.job["clock_ms"]) / 1000

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


def threads(*_, **__):
    raise RuntimeError("there are no threads here; use asyncio.gather over calls")


def house_rules(host, seed):
    """The clock, randomness and output are the run's."""
    now = lambda: host.clock
    time.time = lambda: now() / 1e3
    time.time_ns = lambda: now() * 1_000_000
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time, name, lambda: (now() - host.job["clock_ms"]) / 1e3)
        setattr(time, name + "_ns", lambda: (now() - host.job["clock_ms"]) * 1_000_000)
    for name in ("gmtime", "localtime", "ctime"):
        real = getattr(time, name)
        setattr(time, name, lambda seconds=None, real=real: real(now() / 1e3 if seconds is None else seconds))
    strftime, asctime = time.strftime, time.asctime
    time.strftime = lambda form, moment=None: strftime(form, time.gmtime() if moment is None else moment)
    time.asctime = lambda moment=None: asctime(time.gmtime() if moment is None else moment)
    time.sleep = lambda seconds: host.wait(host.timer(seconds * 1000)) and None
    number = int.from_bytes(seed, "little")
    random.seed(number)
    source = random.Random(number ^ 1)
    os.urandom = random._urandom = lambda count: source.randbytes(count)
    sys.modules["_thread"].start_new_thread = threads
    if "threading" in sys.modules:
        sys.modules["threading"]._start_new_thread = threads
        sys.modules["threading"].Thread.start = threads
    os.environ.clear()

    class Output:
        encoding, errors = "utf-8", "replace"

        def write(self, data):
            return host.write(data)

        def flush(self):
            pass

        def isatty(self):
            return False

    sys.stdout = sys.stderr = Output()


# --- The code ------------------------------------------------------------------------------------------------------


class Calls(ast.NodeTransformer):
    """Calls whose value is awaited are made so that it can be: `await f(x)` becomes `await __later__(f)(x)`."""

    GATHER = {"gather", "create_task", "ensure_future", "wait_for", "wait", "shield", "run", "as_completed"}

    def __init__(self, roots):
        self.roots, self.within = roots, False

    def visit_Await(self, node):
        outer, self.within = self.within, True
        node.value = self.visit(node.value)
        self.within = outer
        return node

    def visit_Call(self, node):
        outer = self.within
        func = node.func
        if self.root(func) in self.roots:
            self.within = False
            self.generic_visit(node)
            if outer:
                wrap = ast.Call(ast.Name("__later__", ast.Load()), [node.func], [])
                node.func = ast.fix_missing_locations(ast.copy_location(wrap, node.func))
        else:
            node.func = self.visit(func)
            name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", None)
            self.within = name in self.GATHER
            node.args = [self.visit(item) for item in node.args]
            node.keywords = [self.visit(item) for item in node.keywords]
        self.within = outer
        return node

    def visit_Lambda(self, node):
        outer, self.within = self.within, False
        self.generic_visit(node)
        self.within = outer
        return node

    def root(self, node):
        while isinstance(node, ast.Attribute):
            node = node.value
        return node.id if isinstance(node, ast.Name) else None


def imports(body):
    """Import statements that no `try` guards."""
    for node in body:
        if isinstance(node, ast.Try) and node.handlers:
            yield from imports(node.orelse)
            yield from imports(node.finalbody)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        else:
            yield from imports(child for child in ast.iter_child_nodes(node))


def unsupported(tree):
    """The first import of what is not there, before anything runs."""
    for node in imports(tree.body):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
        for name in names:
            if sys.modules.get(name) is None and name not in sys.builtin_module_names:
                message = f"`import {name}` is outside the Python that runs here, which has the standard library without files, sockets and processes; do without it, or use TypeScript"
                return fault(UNSUPPORTED, "UnsupportedError", message, node.lineno, node.col_offset + 1)
    return None


def placed(error):
    """An exception as a fault, with its places in the script."""
    places, frames = [], error.__traceback__
    while frames:
        code = frames.tb_frame.f_code
        if code.co_filename == MAIN:
            column = 0
            if hasattr(code, "co_positions"):
                positions = list(code.co_positions())
                at = frames.tb_lasti // 2
                column = (positions[at][2] or 0) + 1 if at < len(positions) else 0
            places.append((frames.tb_lineno, column, code.co_name))
        frames = frames.tb_next
    line, column, _ = places[-1] if places else (0, 0, "")
    stack = "\n".join(f'  File "{MAIN}", line {line}, in {name}' for line, _, name in places)
    try:
        message = str(error)
    except BaseException:
        message = ""
    kind = OUT_OF_MEMORY if isinstance(error, MemoryError) else THROWN
    name = "RuntimeError" if isinstance(error, Refused) else type(error).__name__
    return fault(kind, name, message or ("the run filled its heap" if kind == OUT_OF_MEMORY else ""), line, column, stack)


class Session:
    def __init__(self, state):
        self.state = state


def clocks(host):
    """Both limits end the run by themselves; the server's clock, which nothing here can touch, is 50 ms behind."""

    def up(which, limit):
        def handler(_, frame):
            while frame and frame.f_code.co_filename != MAIN:
                frame = frame.f_back
            line = frame.f_lineno if frame else 0
            failure = fault(TIMED_OUT, "TimeoutError", f"the run used up its {which} of {limit} ms; do less per run, or raise the limit", line)
            if host.sending:
                host.doom = failure
            else:
                host.end(failure)

        return handler

    wall, cpu = host.job["wall_ms"], host.job["cpu_ms"]
    signal.signal(signal.SIGALRM, up("wall time", wall))
    signal.signal(signal.SIGPROF, up("CPU time", cpu))
    signal.setitimer(signal.ITIMER_REAL, wall / 1000)
    signal.setitimer(signal.ITIMER_PROF, cpu / 1000)


def run(job, namespaces, seed):
    host = Host(job)
    house = House(host, namespaces)
    # What the interpreter holds already is not the run's.
    lower(resource.RLIMIT_AS, BASE + (job["memory_mb"] << 20) + (8 << 20))
    lower(resource.RLIMIT_CPU, job["cpu_ms"] // 1000 + 2)
    house_rules(host, seed)
    clocks(host)
    try:
        tree = ast.parse(job["code"], MAIN)
    except SyntaxError as error:
        host.end(fault(SYNTAX, "SyntaxError", error.msg, error.lineno or 0, error.offset or 0))
    except (RecursionError, MemoryError, ValueError) as error:
        host.end(fault(SYNTAX, "SyntaxError", f"the code cannot be parsed: {error}"))
    if missing := unsupported(tree):
        host.end(missing)
    module = types.ModuleType("__main__")
    session = Session(json.loads(job["state"]))
    scope = vars(module)
    scope.update(input=json.loads(job["input"]), session=session, __later__=house.later, _value_=None)
    scope.update({root: Tool(house, root) for root in house.roots})
    sys.modules["__main__"] = module
    failure, value = None, "null"
    try:
        tree = Calls(house.roots).visit(tree)
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = tree.body[-1]
            tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_value_", ast.Store())], last.value), last)
        ast.fix_missing_locations(tree)
        code = compile(tree, MAIN, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        loop = Loop(host)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run = refuse_nested
            loop.run_until_complete(eval(code, scope))
        else:
            asyncio.run = asyncio.runners.run = lambda main, **_: loop.run_until_complete(main)
            asyncio.new_event_loop = asyncio.get_event_loop = lambda: loop
            exec(code, scope)
        value = dumps(scope.get("_value_"))
    except SystemExit as error:
        if error.code not in (None, 0):
            failure = placed(error)
    except BaseException as error:
        failure = placed(error)
        error.__traceback__ = None
    host.flush()
    while any(kind == "call" for kind in host.open.values()):
        host.next()
    try:
        state = dumps(session.state)
    except BaseException:
        state = None
    host.end(failure, value, state)


def refuse_nested(main, **_):
    main.close()
    raise RuntimeError("top-level await and asyncio.run() do not go together; await the coroutine")


def work():
    shut()
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__name__ in ("BuiltinImporter", "FrozenImporter")]
    sys.path[:], sys.path_hooks[:] = [], []
    sys.path_importer_cache.clear()
    for name in ("ctypes", "_ctypes", "ctypes.util", "ctypes._endian", "resource", "_posixsubprocess"):
        sys.modules[name] = None
    layers, engine = CONFIG["layers"], [ENGINE]
    frame = b"\x00" + text(CONFIG["level"])
    for names in (layers, engine):
        frame += varint(len(names)) + b"".join(map(text, names))
    send(frame)
    frame = receive()
    if frame.varint() != 1:
        os._exit(64)
    language = frame.varint()
    job = {"code": frame.text(), "input": frame.text(), "state": frame.text()}
    seed = frame.bytes(32)
    for name in ("clock_ms", "wall_ms", "cpu_ms", "memory_mb", "calls", "result_bytes", "source_bytes", "log_bytes"):
        job[name] = frame.varint()
    namespaces = frame.list(lambda: (frame.text(), frame.list(lambda: (frame.text(), frame.text()))))
    run(job, namespaces, seed)


copies()
work()
