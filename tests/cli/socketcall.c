/* Sockets as 32-bit programs make them: by the call of its own, and through socketcall(2). */
#include <stdio.h>

static unsigned int arguments[3];

static int call(int number, long a, long b, long c)
{
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static int through_socketcall(unsigned int family, unsigned int kind)
{
    arguments[0] = family;
    arguments[1] = kind;
    return call(102, 1, (long)arguments, 0);
}

static void show(const char *what, int result)
{
    printf("%s %d\n", what, result < 0 ? result : 0);
}

int main(void)
{
    show("socket inet", call(359, 2, 1, 0));
    show("socket alg", call(359, 38, 5, 0));
    show("socket vsock", call(359, 40, 1, 0));
    show("socketcall inet", through_socketcall(2, 1));
    return 0;
}
