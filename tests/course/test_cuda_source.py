"""CUDA C in an assignment: what is cut out, what survives, and what a kernel may not hold."""

import re
from pathlib import Path

import pytest

import minillm_kernels
from minillm.course import cuda_files
from minillm.course.cuda_rules import refusal
from minillm.course.cuda_source import CudaSourceError, plain, renamed, statements, stub, untold

FOLDER = Path(minillm_kernels.__file__).parent / "cuda" / "matmul"
RUNGS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.cu"))}
HEAD = """\
#define TILE 32
extern "C" __global__ void matmul(const float *A, const float *B, float *C, int M, int N, int K,
                                  long long lda, long long ldb, long long ldc) {
"""  # the body starts on line 4


def kernel(body, before=""):
    return f"{before}{HEAD}{body}\n}}\n"


@pytest.mark.parametrize("name", [name for name in RUNGS if name < "06"])
def test_the_ladder_up_to_register_tiles_may_be_handed_in(name):
    assert refusal(RUNGS[name]) is None


# Each would let a kernel reach memory, files or code that are not its own, or hide that it does.
ATTACKS = {
    "an include": ('#include "/etc/passwd"', "line 4: #include"),
    "an include with space": ("  #  include <stdio.h>", "line 4: #include"),
    "an include on a line that goes on": ("#inc\\\nlude <stdio.h>", "line 4: a line may not go on"),
    "an include by a trigraph": ("??=include <stdio.h>", "line 4: a line may not go on"),
    "an include by a digraph": ("%:include <stdio.h>", "line 4: %: is another way"),
    "whether a file exists": ("#if __has_include(<stdio.h>)\n#endif", "line 4: #if"),
    "a comment that ends late": ("#define X /* \n [ */ 1", "line 4: a comment goes on"),
    "a comment that goes on": ("// \\\nemu_fail();", "line 4: a line may not go on"),
    "an assembler's file": ('asm(".include x");', "line 4: inline assembly"),
    "another spelling of it": ('__asm__("nop");', "line 4: __asm__ is not among"),
    "a pragma": ("#pragma GCC optimize 3", "line 4: the only pragma"),
    "a pragma in the text": ('_Pragma("GCC optimize 3")', "line 4: _Pragma() is not among"),
    "other line numbers": ('# 1 "/etc/passwd"', "line 4: #1"),
    "an attribute": ("__attribute__((constructor)) int x;", "line 4: __attribute__"),
    "a builtin": ("__builtin_trap();", "line 4: __builtin_trap"),
    "the emulator": ("emu_fail(0, 0, 0, 0);", "line 4: emu_fail is the emulator's"),
    "the counter of accesses": ("__tsan_func_entry(0);", "line 4: __tsan_func_entry"),
    "the C library": ('system("true");', "line 4: a text may not|line 4: system"),
    "a call of it": ("abort();", "line 4: abort() is not among"),
    "output": ("printf();", "line 4: printf() is not among"),
    "a copy that is not counted": ("memcpy(C, A, 4);", "line 4: memcpy() is not among"),
    "an update that is not counted": ("atomicAdd(C, A[0]);", "line 4: atomicAdd() is not among"),
    "an address": ("float x; C[0] = *(&x + 9);", "line 4: & is not"),
    "a reference": ("float x; float &y = x;", "line 4: & is not"),
    "an address by a word": ("float x; float *p = bitand x;", None),
    "an address by a macro": ("#define AND &\nfloat x;", "line 4: a macro may not hold &"),
    "a lambda": ("[=] { C[0] = 1; }();", "line 4: [ may follow"),
    "an array as a pointer": ("float a[4]; float *p = a;", "line 4: a has 1 index elsewhere"),
    "a row as a pointer": ("float a[4][4]; float *p = a[1];", "line 4: a has 2 indices"),
    "an index first": ("float a[4]; C[0] = 9[a];", "line 4: [ may follow"),
    "an array in parentheses": ("float (a)[4]; a[0] = 1;", "line 4: [ may follow"),
    "a pointer to an array": ("float (*p)[4];", "line 4: [ may follow"),
    "an index by a macro": ("#define AT [0]", "line 4: a macro may not hold ["),
    "an array's name by a macro": ("#define X a\nfloat X[4];", "line 5: X is a macro"),
    "a macro with parameters": ("#define D(x) x", "line 4: a macro may have no parameters"),
    "a macro that opens": ("#define OPEN min(1, 1), x = (0", "parenthesis that does not close"),
    "a macro of the language": ("#define const volatile", "line 4: #define needs a name"),
    "a macro of CUDA": ("#define threadIdx 0", "line 4: #define needs a name"),
    "a macro that joins": ("#define X a ## b", "line 4: # may|line 4: a macro may not"),
    "an argument's name": ("{ float A[4]; }", "line 4: A is the name of an argument"),
    "the same behind a comma": ("{ int q, A[4]; }", "line 4: A may not stand behind"),
    "the same in a loop": ("for (int q = 0, A[4]; ; ) {}", "line 4: A may not stand behind"),
    "a pointer from a number": ("float *p = (float *)K;", "line 4: a cast to a pointer"),
    "a pointer from a cast": ("float *p = reinterpret_cast<float *>(K);", "line 4: a cast between"),
    "a union": ("union { float f; };", "line 4: a union"),
    "a struct": ("struct S { float v[1]; };", "line 4: a struct"),
    "a template": ("template <int N> int x;", "line 4: a template"),
    "another name for a type": ("typedef float T[4];", "line 4: typedef"),
    "a variable that stays": ("static float x;", "line 4: static"),
    "a jump": ("goto x;", "line 4: goto"),
    "a namespace": ("std::abort();", "line 4: :: is not"),
    "a member": ("C[0] = A.x;", "line 4: .x: only threadIdx"),
    "a letter": ("int x = 'a';", "line 4: "),
    "a raw text": ('const char *x = R"(x)";', "line 4: a text may not stand"),
    "letters of other alphabets": ("int \u0430 = 1;", "line 4: "),
    "a form feed": ("\x0c#include <stdio.h>", "line 4: a control character"),
    "a carriage return": ("// \r#include <stdio.h>", "line 4: a control character"),
    "the suffix of own names": ("int x_own;", "line 4: names may not hold"),
    "a name of the compiler": ("int __x;", "line 4: __x is not among"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_kernel_may_not_hold_is_named_with_its_line(name):
    body, told = ATTACKS[name]
    assert refusal(kernel("")) is None
    found = refusal(kernel(body))
    if told is None:  # no rule of its own: its words have lost their meaning
        assert found is None or "elsewhere" in found
        assert "bitand_own" in renamed(kernel(body))
        return
    assert found is not None, f"{name} is not refused"
    assert any(found.startswith(t) or t in found for t in told.split("|")), found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (kernel("", "float stays;\n"), "float may not stand outside the kernel"),
        (kernel("", "__device__ int f() { return 1; }\n"), "a function or variable beside"),
        (kernel("") + "int x = 1;\n", "nothing may follow the kernel"),
        (kernel("") + kernel(""), "there must be one kernel"),
        (kernel("").replace("matmul", "fma"), "there must be one kernel, named matmul"),
        (kernel("").replace("float *C", "float C[4]"), "a parameter may not be an array"),
        (kernel("}\nfloat x = 1;\nvoid f {"), "nothing may follow the kernel"),
        (kernel("{"), "a brace is missing"),
        ("", "there must be one kernel"),
        (kernel("x" * 70000), "65536 is the most"),
        (kernel("/* open"), "line 4: a comment that does not end"),
        (kernel("", "#ifndef X\nint x;\n#define X 1\n#endif\n"), "must have #define NAME"),
    ],
)  # fmt: skip
def test_the_whole_file_is_one_kernel(text, told):
    assert told in refusal(text)


def test_comments_may_say_anything():
    assert refusal(kernel("// asm(&x); é \\ in the middle, R\"( '\n/* #include [[ */")) is None


def test_names_lose_the_meaning_they_have_elsewhere():
    text = renamed(kernel("int system = threadIdx.x; C[system] = min(A[0], __LINE__);"))
    assert "system_own" in text
    assert "C_own[system_own] = min(A_own[0], __LINE___own)" in text
    assert "threadIdx.x" in text
    assert text.count("\n") == kernel("").count("\n")
    assert plain("C_own[3] is read by matmul") == "C[3] is read by matmul"


@pytest.mark.parametrize("name", [name for name in RUNGS if name < "06"])
def test_a_stub_holds_no_statement_of_the_body(name):
    text = RUNGS[name]
    cut = stub(text, "not implemented: it")
    assert untold(cut) == "not implemented: it"
    assert untold(text) is None
    assert cut.startswith(text[: text.index("#define REAL")])
    squeezed = re.sub(r"\s+", "", cut)
    assert len(statements(text)) > 5
    for statement in statements(text):
        assert re.sub(r"\s+", "", statement) not in squeezed
    # were one to survive, it would be seen
    assert re.sub(r"\s+", "", max(statements(text))) in re.sub(r"\s+|//.*", "", text)


def test_a_stub_does_not_compile_and_says_why():
    from minillm_kernels.emulator import EmulatorError, RawModule

    with pytest.raises(EmulatorError, match="not implemented: shared_tile"):
        RawModule(code=stub(RUNGS["03_shared_tile"], "not implemented: shared_tile")).compile()


def test_a_body_is_found_between_comments_and_macros():
    text = '#define X {\n// {\nextern "C" __global__ void matmul() { /* } */ if (1) { } }\n'
    assert stub(text, "m").endswith('matmul() {\n#error "m"\n}\n')
    with pytest.raises(CudaSourceError, match="no __global__ function"):
        stub("__global__ void matmul();", "m")


def module_of(text, omitted=()):
    found = {}
    exec(cuda_files.as_module("x.cu", text, RUNGS["07_warp_tile"], omitted), found)
    return found


def test_a_missing_barrier_is_put_in_and_nothing_else():
    whole = RUNGS["07_warp_tile"]
    given = cuda_files.starter(whole, "missing_barrier", (2,))
    assert given.count("__syncthreads();") == whole.count("__syncthreads();") - 1
    with pytest.raises(NotImplementedError, match="no barrier"):
        module_of(given, (2,))
    assert module_of(whole.encode(), (2,))["TEXT"] == whole
    assert module_of(whole.replace("    int stage", "    // mine\n\n    int  stage"), (2,))["TEXT"]
    for old, new, told in [
        ("int stage = 0", "int stage = 1", "line 112: only barriers"),
        ("__syncthreads();", "__syncthreads(); __syncthreads();", "4 barriers; 2 are enough"),
        ("#define PAD 4", "#define PAD\n4", "only barriers"),
        ("#define PAD 4", "#define PAD\\\n4", "may not stand there"),
        ("stage ^= 1)", "stage ^= 1) __syncwarp();", "only barriers"),
    ]:
        assert told in module_of(whole.replace(old, new), (2,))["REFUSED"]


def test_a_file_that_is_no_text_is_refused():
    assert module_of(b"\xff\xfe\x00")["REFUSED"].startswith("x.cu, line 1: ")
    assert module_of("\ufeff" + kernel("").replace("\n", "\r\n"))["TEXT"] == renamed(kernel(""))
