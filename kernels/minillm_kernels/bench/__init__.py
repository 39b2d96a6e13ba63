"""Our kernels beside the vendor's, on one GPU in one process: `python -m minillm_kernels bench`.

row.py     what a row of the table is: contestants that do the same work on the same inputs
clock.py   how a call is timed
run.py     checks, times and writes every row
table.py   results/*.json as the table in docs/, and each rung's share in its own header
Then the rows themselves: products.py, attention.py, memory_bound.py, head.py, ladders.py and
training.py.
"""
