"""A server in front of other servers: its answers are theirs, through hfstream's own client.

Only this folder of the server imports the client. Does not depend on models: nothing is tokenised or rendered here.
"""
