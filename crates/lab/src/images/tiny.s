# The tiny guest: eight sectors that SeaBIOS boots from a disk.
#
# Sector 0 loads the other seven behind itself and enters 32-bit mode. The guest
# then fills its memory with a pattern, and a hundred times a second wakes up to
# see whether the next heartbeat is due. With each heartbeat it checks and
# rewrites some pages, chains a block on its IDE disk, and prints a line on COM1.
#
# Layout of memory, pattern and chain: see the modules `tiny` and `chain` of the
# guest's crate, which check all of it from outside.

.pushsection .rodata.godwit_tiny, "a", @progbits
.globl godwit_tiny
.hidden godwit_tiny
godwit_tiny:

.set LOAD, 0x7c00
.set HEAD, 0x10000              # what the outside reads
.set END, HEAD + 8
.set WINDOW, HEAD + 12
.set REWRITTEN, HEAD + 16
.set BEATS, HEAD + 20
.set BAD, HEAD + 24
.set DISK, HEAD + 28
.set WRITING, HEAD + 32
.set TICKS, 0x10100             # our own variables
.set DUE, 0x10104
.set LINK, 0x10108              # hash of the newest block
.set COUNTER, 0x1010c           # its counter
.set CHECKED, 0x10110           # pages behind the window checked so far
.set PRESENT, 0x10114           # 1: there is an IDE disk
.set IDT, 0x11000
.set BLOCK, 0x12000
.set FIRST, 0x100000
.set A, 0x9e3779b1
.set B, 0x85ebca77
.set RING, 2048                 # first sector of the ring
.set SLOTS, 1024

.code16
    jmp boot
    .org godwit_tiny + 4
# Parameters; whoever makes the image sets them.
p_rewrite: .long 64             # pages rewritten with each heartbeat
p_window:  .long 1024           # pages of the window
p_limit:   .long 0              # end of the pattern at most; 0: all memory
p_ticks:   .long 10             # hundredths of a second between heartbeats
p_chain:   .long 1              # 1: chain blocks on the disk

boot:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $LOAD, %sp
    sti
    movw $(packet - godwit_tiny + LOAD), %si
    movb $0x42, %ah
    int $0x13
    jc halt16
    inb $0x92, %al              # address line 20
    orb $2, %al
    andb $0xfe, %al
    outb %al, $0x92
    cli
    movw $(gdtr - godwit_tiny + LOAD), %si
    lgdtw (%si)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    .byte 0x66, 0xea            # far jump into the 32-bit segment
    .long main32 - godwit_tiny + LOAD
    .word 8
halt16:
    hlt
    jmp halt16

packet:                         # sectors 1 to 7, to behind this one
    .byte 16, 0
    .word 7, LOAD + 512, 0
    .long 1, 0
gdtr:
    .word 23
    .long gdt - godwit_tiny + LOAD
    .p2align 3
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    # code, all of memory
    .quad 0x00cf93000000ffff    # data, all of memory
    .org godwit_tiny + 510
    .word 0xaa55

.code32
main32:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $LOAD, %esp
    cld
    movl $HEAD, %edi            # all variables and the interrupt table
    xorl %eax, %eax
    movl $0x1000, %ecx
    rep stosl
    call serial_init
    call interrupts_init
    call memory_init
    call disk_init
    movl $(t_ready - godwit_tiny + LOAD), %esi
    call text
    movl END, %eax
    call hex
    call disk_field
    call line_end
    sti

wait:
    hlt
    movl TICKS, %eax
    subl DUE, %eax
    js wait
    movl TICKS, %eax
    addl p_ticks - godwit_tiny + LOAD, %eax
    movl %eax, DUE
    incl BEATS
    call rewrite
    call recheck
    call chain
    movl $(t_beat - godwit_tiny + LOAD), %esi
    call text
    movl BEATS, %eax
    call hex
    call disk_field
    movl $(t_bad - godwit_tiny + LOAD), %esi
    call text
    movl BAD, %eax
    call hex
    call line_end
    jmp wait

# ---- memory -----------------------------------------------------------------

# Finds the end of memory below 4 GiB and writes generation 1 everywhere.
memory_init:
    movb $0x35, %al             # 64 KiB units above 16 MiB
    call cmos
    shll $8, %eax
    movl %eax, %ebx
    movb $0x34, %al
    call cmos
    orl %eax, %ebx
    shll $16, %ebx
    addl $0x1000000, %ebx
    cmpl $0x1000000, %ebx
    ja 1f
    movb $0x31, %al             # KiB above 1 MiB
    call cmos
    shll $8, %eax
    movl %eax, %ebx
    movb $0x30, %al
    call cmos
    orl %eax, %ebx
    shll $10, %ebx
    addl $FIRST, %ebx
1:  andl $0xfffff000, %ebx
    movl p_limit - godwit_tiny + LOAD, %eax
    testl %eax, %eax
    jz 2f
    cmpl %ebx, %eax
    jae 2f
    movl %eax, %ebx
2:  movl %ebx, END
    subl $FIRST, %ebx           # the window is at most everything
    shrl $12, %ebx
    movl p_window - godwit_tiny + LOAD, %eax
    cmpl %ebx, %eax
    jbe 3f
    movl %ebx, %eax
3:  movl %eax, WINDOW
    movl $FIRST, %edi
4:  movl $1, %ebx
    call write_page             # moves on to the next page
    cmpl END, %edi
    jb 4b
    movl $0x49545747, HEAD      # "GWTI", "NY01": now the head holds
    movl $0x3130594e, HEAD + 4
    ret

cmos:                           # al -> eax
    outb %al, $0x70
    xorl %eax, %eax
    inb $0x71, %al
    ret

# edi: page, ebx: generation -> eax: word before masking, esi: mask.
page_start:
    imull $A, %edi, %eax
    imull $B, %ebx, %edx
    addl %edx, %eax
    movl $0xffffffff, %esi
    testl $0x1000, %edi
    jz 1f
    movl $0x0f0f0f0f, %esi
1:  movl $1024, %ecx
    ret

# Writes the page at edi with generation ebx; edi moves on.
write_page:
    call page_start
1:  movl %eax, %edx
    shrl $15, %edx
    xorl %eax, %edx
    andl %esi, %edx
    movl %edx, (%edi)
    addl $4, %edi
    addl $(4 * A) & 0xffffffff, %eax
    decl %ecx
    jnz 1b
    ret

# Checks the page at edi for generation ebx; edi moves on; counts and tells a
# page that differs.
check_page:
    pushl %edi
    call page_start
1:  movl %eax, %edx
    shrl $15, %edx
    xorl %eax, %edx
    andl %esi, %edx
    cmpl (%edi), %edx
    jne 2f
    addl $4, %edi
    addl $(4 * A) & 0xffffffff, %eax
    decl %ecx
    jnz 1b
    popl %eax
    ret
2:  incl BAD
    pushl (%edi)
    pushl %edx
    movl $(t_wrong - godwit_tiny + LOAD), %esi
    call text
    movl %edi, %eax
    call hex
    movl $(t_expected - godwit_tiny + LOAD), %esi
    call text
    popl %eax
    call hex
    movl $(t_found - godwit_tiny + LOAD), %esi
    call text
    popl %eax
    call hex
    call line_end
    popl %edi
    addl $4096, %edi
    ret

# Checks the window's next pages and writes them with their next generation.
rewrite:
    movl p_rewrite - godwit_tiny + LOAD, %ebp
    jmp 2f
1:  movl REWRITTEN, %eax
    xorl %edx, %edx
    divl WINDOW                 # eax: rounds, edx: page of the window
    leal 1(%eax), %ebx
    shll $12, %edx
    leal FIRST(%edx), %edi
    pushl %edi
    pushl %ebx
    call check_page
    popl %ebx
    popl %edi
    incl %ebx
    movl %edi, WRITING
    call write_page
    incl REWRITTEN
    movl $0, WRITING
    decl %ebp
2:  testl %ebp, %ebp
    jnz 1b
    ret

# Checks the next 16 pages behind the window, which stay at generation 1.
recheck:
    movl $16, %ebp
1:  movl CHECKED, %eax
    addl WINDOW, %eax
    shll $12, %eax
    leal FIRST(%eax), %edi
    cmpl END, %edi
    jae 2f
    movl $1, %ebx
    call check_page
    incl CHECKED
    decl %ebp
    jnz 1b
    ret
2:  movl $0, CHECKED            # once around
    ret

# ---- disk -------------------------------------------------------------------

# Looks for a disk on the first IDE channel and for the newest block on it.
disk_init:
    cmpl $0, p_chain - godwit_tiny + LOAD
    je 2f
    movw $0x1f6, %dx
    movb $0xe0, %al
    outb %al, %dx
    movw $0x3f6, %dx            # no interrupts
    movb $2, %al
    outb %al, %dx
    movw $0x1f7, %dx
    inb %dx, %al
    cmpb $0xff, %al
    je 2f
    testb $0x40, %al            # ready?
    jz 2f
    movl $1, PRESENT
    xorl %ebx, %ebx
1:  leal RING(%ebx), %eax
    movb $0x20, %cl
    call command
    movl $BLOCK, %edi
    movl $128, %ecx
    movw $0x1f0, %dx
    rep insl
    cmpl $0x48435747, BLOCK     # "GWCH"
    jne 3f
    movl BLOCK + 4, %eax
    cmpl COUNTER, %eax
    jbe 3f
    movl %eax, COUNTER
    movl %eax, DISK
    movl BLOCK + 508, %eax
    movl %eax, LINK
3:  incl %ebx
    cmpl $SLOTS, %ebx
    jb 1b
2:  ret

# Sends command cl for sector eax and waits until data can flow.
command:
    movl %eax, %esi
    movb %cl, %ch
    movw $0x1f2, %dx
    movb $1, %al
    outb %al, %dx
    movl %esi, %eax
    incl %edx
    outb %al, %dx
    shrl $8, %eax
    incl %edx
    outb %al, %dx
    shrl $8, %eax
    incl %edx
    outb %al, %dx
    movb $0xe0, %al
    incl %edx
    outb %al, %dx
    movb %ch, %al
    incl %edx
    outb %al, %dx
1:  inb %dx, %al
    testb $0x80, %al            # busy
    jnz 1b
    testb $0x08, %al            # data
    jnz 2f
    testb $0x21, %al            # failed: data would never come
    jz 1b
2:  ret

# Chains one block and waits until the disk has it for good.
chain:
    cmpl $0, PRESENT
    je 3f
    movl COUNTER, %ebx
    incl %ebx
    movl $BLOCK, %edi
    movl $0x48435747, (%edi)
    movl %ebx, 4(%edi)
    movl LINK, %eax
    movl %eax, 8(%edi)
    movl $0, 12(%edi)
    movl $4, %ecx
1:  imull $A, %ecx, %eax
    imull $B, %ebx, %edx
    addl %edx, %eax
    movl %eax, %edx
    shrl $15, %edx
    xorl %edx, %eax
    movl %eax, (%edi,%ecx,4)
    incl %ecx
    cmpl $127, %ecx
    jb 1b
    movl $0x811c9dc5, %eax
    xorl %ecx, %ecx
2:  xorl (%edi,%ecx,4), %eax
    roll $5, %eax
    imull $A, %eax, %eax
    incl %ecx
    cmpl $127, %ecx
    jb 2b
    movl %eax, 508(%edi)
    movl %ebx, %eax
    andl $(SLOTS - 1), %eax
    addl $RING, %eax
    movb $0x30, %cl
    call command
    testb $0x21, %al
    jnz 4f
    movl $BLOCK, %esi
    movl $128, %ecx
    movw $0x1f0, %dx
    rep outsl
    call disk_idle
    jnz 4f
    movb $0xe7, %al             # flush
    outb %al, %dx
    call disk_idle
    jnz 4f
    movl BLOCK + 508, %eax
    movl %eax, LINK
    movl %ebx, COUNTER
    movl %ebx, DISK
3:  ret
4:  movl $0, PRESENT            # a disk that failed is not used again
    incl BAD
    movl $(t_disk_bad - godwit_tiny + LOAD), %esi
    call text
    movl %ebx, %eax
    call hex
    jmp line_end

# Waits until the disk is idle; not zero: it failed.
disk_idle:
    movw $0x1f7, %dx
1:  inb %dx, %al
    testb $0x80, %al
    jnz 1b
    testb $0x21, %al
    ret

# ---- clock and interrupts -----------------------------------------------------

interrupts_init:
    movl $(tick - godwit_tiny + LOAD), %eax
    movl $IDT + 0x20 * 8, %edi
    movw %ax, (%edi)
    movw $8, 2(%edi)
    movw $0x8e00, 4(%edi)
    shrl $16, %eax
    movw %ax, 6(%edi)
    movl $(idtr - godwit_tiny + LOAD), %eax
    lidt (%eax)
    movl $(pic - godwit_tiny + LOAD), %esi
    xorl %edx, %edx
1:  movb (%esi), %dl            # pairs of port and value, until port 0
    testb %dl, %dl
    jz 2f
    movb 1(%esi), %al
    outb %al, %dx
    addl $2, %esi
    jmp 1b
2:  ret

tick:
    pushl %eax
    incl TICKS
    movb $0x20, %al
    outb %al, $0x20
    popl %eax
    iret

idtr:
    .word 0x21 * 8 - 1
    .long IDT
pic:                            # interrupts from 0x20 on, only the clock; 100 Hz
    .byte 0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28
    .byte 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1, 0x21, 0xfe, 0xa1, 0xff
    .byte 0x43, 0x34, 0x40, 11932 & 255, 0x40, 11932 >> 8, 0

# ---- serial port ----------------------------------------------------------------

serial_init:
    movl $(uart - godwit_tiny + LOAD), %esi
    movl $0x300, %edx
1:  movb (%esi), %dl
    testb %dl, %dl
    jz 2f
    movb 1(%esi), %al
    outb %al, %dx
    addl $2, %esi
    jmp 1b
2:  ret
uart:                           # 115,200 baud, 8 bits, no interrupts
    .byte 0xf9, 0, 0xfb, 0x80, 0xf8, 1, 0xf9, 0, 0xfb, 3, 0xfa, 7, 0xfc, 3, 0

letter:                         # al
    pushl %eax
    movl $0x3fd, %edx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    popl %eax
    movl $0x3f8, %edx
    outb %al, %dx
    ret

text:                           # esi, ends with 0
    lodsb
    testb %al, %al
    jz 1f
    call letter
    jmp text
1:  ret

hex:                            # eax, eight digits
    movl $8, %ecx
    movl %eax, %ebx
1:  roll $4, %ebx
    movl %ebx, %eax
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe 2f
    addb $('a' - '0' - 10), %al
2:  call letter
    decl %ecx
    jnz 1b
    ret

disk_field:
    movl $(t_disk - godwit_tiny + LOAD), %esi
    call text
    movl DISK, %eax
    jmp hex

line_end:
    movl $(t_end - godwit_tiny + LOAD), %esi
    jmp text

t_ready:    .asciz "tiny ready memory "
t_beat:     .asciz "tiny beat "
t_disk:     .asciz " disk "
t_bad:      .asciz " bad "
t_wrong:    .asciz "tiny BAD address "
t_expected: .asciz " expected "
t_found:    .asciz " found "
t_disk_bad: .asciz "tiny BAD disk at block "
t_end:      .asciz "\r\n"

    .org godwit_tiny + 4096
.code64
.popsection
